"""placeholder until the next step"""
LEVELS = 1 << 16
def dropout_threshold(p):
    return min(round(p * LEVELS), LEVELS - 1)
def current_salt():
    return None
