"""How a model learns: the LightningModule, the optimiser, and what happens around them."""
