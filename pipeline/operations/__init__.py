"""Layer: operations. What keeps chains moving and tells people why one does not."""
