"""Memory on the GPU: CuPy's pool keeps what was freed, so there is nothing to tune; how much is in use can be asked."""


def tune_malloc():
    """Nothing to do: freed arrays stay in CuPy's memory pool.  False, as on a CPU whose C library cannot be tuned."""
    return False
