"""Layer: miners. They page a source for one chain and hand each page to the store, under a doorbell."""
