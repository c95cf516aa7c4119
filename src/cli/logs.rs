//! What the log says, and how.

use clap::ValueEnum;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// Say more
    #[arg(long, env = "KINGLET_DEBUG")]
    debug: bool,
    /// Form of the log on stderr
    #[arg(long, env = "KINGLET_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Sends the log to stderr. `KINGLET_LOG` takes tracing's directives, for hunting.
    pub(super) fn start(&self) {
        // What is odd about a client's TLS is of no interest to who runs the server, and a client that
        // names the server by its address says it with each connection.
        let default = match self.debug {
            true => "info,kinglet=debug",
            false => "warn,rustls=error,kinglet=info",
        };
        let filter = std::env::var("KINGLET_LOG").ok();
        let filter = filter.and_then(|directives| EnvFilter::try_new(directives).ok());
        let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(is_coloured())
            .with_target(self.debug);
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}

/// A journal keeps colours as rubbish; <https://no-color.org> says how they are refused.
fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
