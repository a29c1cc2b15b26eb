"""Google's rpcs on the wire: proto3 JSON, resource names and statuses, whatever the service."""
