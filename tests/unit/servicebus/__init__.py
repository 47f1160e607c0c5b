"""The local Service Bus from inside: codec, store, entities, configuration."""
