"""Layer: the bus. Queues carry work, topics carry data; `messages` says what stands in them, `service_bus` sends."""
