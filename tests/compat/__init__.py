"""The local Service Bus with other versions and languages of the client."""
