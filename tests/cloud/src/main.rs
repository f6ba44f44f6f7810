//! The command line of the reference cloud; see `sentrycam_cloud::cli`.

use std::io::IsTerminal;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let cli = sentrycam_cloud::cli::Cli::parse();
    tokio::runtime::Runtime::new()?.block_on(cli.run())
}
