"""Raw subscribers: `/ws?channel=` and `/sse?channel=`."""
