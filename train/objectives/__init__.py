"""Objectives: what a batch is made of, and so what a model learns from a text. One objective a file.

The trainer asks an objective for these, and knows nothing else about it:

    check(data, what)                  ValueError if there is too little of the "training" or "held-out" data
    training_batch(data, number)       batch `number` of training, a function of the objective's seed and that number
                                       alone, so that a resumed run goes on with the batches it would have seen
    evaluation_batches(data, limit)    a key for every batch of one pass over the data, or for `limit` of them spread
                                       evenly over it
    evaluation_batch(data, key)        the batch of a key
    one_shape                          (a CUDA graph asks for it) whether all training batches have one shape

A batch is a dict of arrays whose first axis is the batch; batch["ids"] holds the tokens read, (B, T) or (B, T, ...).
The model turns it into a loss. A loss is a mean, or a sum of several (BERT's two), and `model.counts(batch)` says how
many predictions each is the mean of, the main one first. `model.loss(shard, counts)` divides the shard's sums by those
of the whole batch instead: so the losses of the shards add up to the loss of the batch, exactly, and so do gradients.
"""
