"""Layer: schedulers. A timer per feed fans out one message per active user."""
