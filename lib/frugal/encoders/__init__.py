"""One small classifier: an encoder, the mean of its states, one linear layer."""
