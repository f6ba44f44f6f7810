//! The `sentrycam` program: see [`sentrycam::cli`].

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = sentrycam::cli::Cli::parse();
    match sentrycam::cli::main(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("sentrycam: {e:#}");
            ExitCode::FAILURE
        }
    }
}
