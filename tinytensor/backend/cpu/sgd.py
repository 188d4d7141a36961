"""Plain gradient descent over flat arrays; see optimizer.py."""

from tinytensor.backend.cpu.optimizer import blocks_with_decay


def sgd(params, grads, velocity, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0, grad_scale=1.0, decayed=None,
        copy=None):
    """One step of gradient descent, in place on params and velocity (None where momentum is 0).

    g = grad_scale * grads + weight_decay * params
    velocity = momentum velocity + g
    params = params - lr (g + momentum velocity  if nesterov else  velocity)
    decayed, copy: as in adamw.
    """
    for block, decays in blocks_with_decay(params.size, decayed):
        p = params[block]
        g = grads[block] * grad_scale
        if decays and weight_decay:
            g += weight_decay * p
        if momentum:
            u = velocity[block]
            u *= momentum
            u += g
            g = g + momentum * u if nesterov else u
        p -= lr * g
        if copy is not None:
            copy[block] = p
