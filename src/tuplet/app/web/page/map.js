export async function startMap() {
  return null;
}
