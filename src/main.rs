//! The executable: hands over to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(ended) = kinglet::runtime::companion::dispatch(std::env::args_os()) {
        return ended;
    }
    ExitCode::SUCCESS
}
