"""SQL Server without SQL Server: every statement through Microsoft's own parser, the driver's path through a fake."""
