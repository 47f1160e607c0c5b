"""Layer: from a page's raw items to candidates, quarantine and data messages. Pure: SQL decides what is new."""
