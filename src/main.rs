//! The executable: hands over to the command line.

use std::process::ExitCode;

/// Much of the memory is short-lived buffers of many threads; this allocator gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kinglet::sys::memory::use_small_pages();
    // Containers' logs are written by this executable as well, which has to be small then.
    if let Some(ended) = kinglet::runtime::companion::dispatch(std::env::args_os()) {
        return ended;
    }
    kinglet::cli::main()
}
