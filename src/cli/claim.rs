//! `claim` and `unclaim`: through the running agent, by whoever may open its socket.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::output;
use crate::agent::claimer::ClaimStatus;
use crate::agent::claimer::control::{Ask, Following, ask};
use crate::agent::wipe::Wipe;
use crate::config::Config;

#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// A claim code from your cloud: claims the device without anything more to type in.
    #[arg(long, value_name = "XXXX-XXXX")]
    code: Option<String>,
    /// Print each state as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct UnclaimArgs {
    /// Remove the keys of this device although its owner was not asked.
    #[arg(long, required = true)]
    local: bool,
    /// Remove records, recordings and everything else of the owner too.
    #[arg(long)]
    all: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn claim(config: &Config, args: &ClaimArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let code = args.code.clone();
        let mut following = request(config, &Ask::Claim { code }, args.json).await?;
        let mut shown = None;
        let mut last = ClaimStatus::default();
        while let Some(status) = following.next().await? {
            if args.json {
                println!("{}", serde_json::to_string(&status)?);
            } else {
                show(&status, &mut shown)?;
            }
            last = status;
        }
        match last.state.as_str() {
            // A device whose key was lost stays its owner's, however its window ended.
            "claimed" if last.ended.is_none() => Ok(ExitCode::SUCCESS),
            _ if args.json => Ok(ExitCode::FAILURE),
            _ => {
                let why = last
                    .ended
                    .map_or("the agent ended".into(), |(_, text)| text);
                anyhow::bail!("not claimed: {why}")
            }
        }
    })
}

pub fn unclaim(config: &Config, args: &UnclaimArgs) -> anyhow::Result<ExitCode> {
    let what = if args.all {
        "its keys, its records and its recordings"
    } else {
        "its keys (records and recordings stay for the same owner)"
    };
    if !args.yes
        && !confirmed(&format!(
            "Take this device from its owner and remove {what}?"
        ))?
    {
        println!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let wipe = if args.all {
        Wipe::All
    } else {
        Wipe::Credentials
    };
    runtime()?.block_on(async {
        request(config, &Ask::Unclaim { wipe }, args.json).await?;
        if args.json {
            output::json(&serde_json::json!({ "unclaimed": true, "all": args.all }))
        } else {
            println!("the device is unclaimed");
            Ok(())
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn request(config: &Config, what: &Ask, json: bool) -> anyhow::Result<Following> {
    let dir = &config.state_dir;
    if config.cloud.is_none() {
        anyhow::bail!("the agent runs standalone: add [cloud] with api_base to the configuration");
    }
    let answer = ask(dir, what).await.with_context(|| {
        format!(
            "cannot ask the agent in {} (run this as root or as the agent's user)",
            dir.display()
        )
    })?;
    match answer {
        None => anyhow::bail!(
            "no agent runs with state directory {} (start it with `sentrycam run` or `systemctl start sentrycam`)",
            dir.display()
        ),
        Some(Ok(following)) => Ok(following),
        Some(Err(refused)) => {
            if json {
                output::json(&serde_json::json!({ "refused": refused }))?;
            }
            Err(refused.into())
        }
    }
}

/// Prints what has changed since the last time, for people.
fn show(status: &ClaimStatus, shown: &mut Option<String>) -> anyhow::Result<()> {
    let key = format!("{} {:?}", status.state, status.user_code);
    if shown.replace(key.clone()).as_ref() == Some(&key) {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    match status.state.as_str() {
        "opening" => writeln!(out, "asking the cloud…")?,
        "open" => {
            let address = status.verification_uri.as_deref().unwrap_or_default();
            let code = status.user_code.as_deref().unwrap_or_default();
            if out.is_terminal()
                && let Some(picture) = qr(address)
            {
                writeln!(out, "\n{picture}\n")?;
            }
            let minutes = status.closes_in_s.unwrap_or_default().div_ceil(60);
            writeln!(out, "Open   {address}\nType   {code}\n")?;
            writeln!(
                out,
                "Or choose \"{}\" from the list in the app. The window closes in {minutes} min.",
                status.id
            )?;
        }
        "challenge" => writeln!(out, "Press the button as often as the app says.")?,
        "confirming" => writeln!(out, "claimed by its owner, confirming…")?,
        "claimed" => {
            let owner = status.tenant.as_deref().unwrap_or("its owner");
            let edge_id = status.edge_id.as_deref().unwrap_or_default();
            writeln!(out, "The device is claimed by {owner} as {edge_id}.")?;
        }
        _ => {}
    }
    Ok(())
}

/// An address as a QR code of block characters; `None` where it is too long for one.
fn qr(address: &str) -> Option<String> {
    let code = QrCode::new(address.as_bytes()).ok()?;
    Some(
        code.render::<Dense1x2>()
            // Terminals are dark: what is light on paper is what is drawn.
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build(),
    )
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("{question} Say so with --yes");
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_a_picture() {
        let picture = qr("https://app.example.com/claim").unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        let width = lines[0].chars().count();
        assert!(width > 20 && lines.iter().all(|l| l.chars().count() == width));
        assert!(qr(&"x".repeat(5000)).is_none());
    }
}
