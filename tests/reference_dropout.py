"""The mask of dropout, bit for bit: the sentence of docs/numerics.md in NumPy."""

import numpy as np


def mix64(z):
    """The finalizer of SplitMix64, on a Python integer."""
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def dropout_bits(counter, middle):
    """32 random bits for each counter; uint32 arithmetic wraps around."""
    x = counter ^ (counter >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15)) ^ middle
    return x * np.uint32(0x846CA68B)


def dropout_mask(shape, p, seed, step, *, first_block=0):
    """True for the elements that are kept: blocks of 16384 in C order, each with a key of its own."""
    n, block = int(np.prod(shape)), 16384
    bits = []
    for b in range(-(-n // block)):
        key = mix64(mix64(mix64(int(seed)) ^ int(step)) ^ (first_block + b))
        place = np.arange(min(block, n - b * block), dtype=np.uint32)
        counter = np.array([key % 2**32], np.uint32) + place * np.uint32(0x9E3779B9)
        bits.append(dropout_bits(counter, np.array([key >> 32], np.uint32)))
    signed = np.concatenate([np.zeros(0, np.uint32), *bits]).view(np.int32).astype(np.int64)
    return (signed >= int(np.floor(p * 2**32 + 0.5)) - 2**31).reshape(shape)
