"""The network as a file of ONNX."""


def embed(folder, inputs):
    """Embeddings (n, dim) of inputs (n, ...)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"inputs": inputs})[0]
