"""Descriptions: the API's OpenAPI and discovery documents."""
