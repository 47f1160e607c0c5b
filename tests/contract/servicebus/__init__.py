"""The local Service Bus from outside: the real clients, and bytes no client would send."""
