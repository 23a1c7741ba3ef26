"""Raw subscribers: clients of `/ws?channel=` and `/sse?channel=`, which receive publications and send nothing."""
