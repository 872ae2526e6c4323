"""The REST service: search, records and exports of archives over HTTP, with limits."""
