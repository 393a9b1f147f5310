"""Chapter 4: design spaces of parameter-efficient tuning, from S0 to S4, and the search in them.

Source: Chen et al., ICLR 2023. Its released code has no S0 to S4; what stands here follows its
description. `design` and `sizes` need no torch.
"""
