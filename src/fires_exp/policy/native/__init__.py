"""The project's own passes over a Qwen2.5-VL: shared prefix, decoding, LoRA layers, log-probabilities.

Shape letters, beside those of the whole project (P prompts, G generations, B = P·G, T tokens of a sequence, C tokens of a
completion, V vocabulary, D hidden size, H heads):

    K   key/value heads, each read by H / K query heads
    X   all heads of a query-key-value product, H + 2K
    W   width of a head
    L   layers
    I   width of the MLP
    Y   outputs of a linear layer y = x W^T, whose inputs are D
    A   rank of a LoRA pair
    S   slots of a prompt, one for each of its rows in a batch (`decoding.Slots`)
"""
