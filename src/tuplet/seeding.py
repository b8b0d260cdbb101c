"""Random generators derived from one seed and a purpose; the only source of randomness."""

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(0, "sampler", epoch)`.

    Different purposes give independent streams; the same purpose gives the same stream on every machine.

    Args:
        seed: Seed of the whole run.
        purpose: Words and numbers that name what the stream is for.

    Returns:
        Integer in [0, 2^63).
    """
    text = "/".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derive(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose; see `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *purpose))
