"""The Graph simulator against the API's documented behaviour, by clients that are not ours."""
