//! How everything but the API server itself reaches the API: requests, watches, shared caches.
