//! The loop shared by all API controllers: queue, observe, plan, execute, look again.
