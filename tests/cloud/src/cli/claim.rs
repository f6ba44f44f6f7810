//! `sentrycam-cloud admin create-claim-code | claims | bind | rotate | unclaim | license`

use anyhow::{Result, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::admin::say;
use super::{print, table};
use crate::admin;
use crate::claiming::bind::{self, Binder};
use crate::claiming::{Limits, codes, rotate};
use crate::command::leave::{self, Wipe};
use crate::db::Db;
use crate::license::{self, Grant};
use crate::secret::WrappingKey;

/// Make a claim code.
#[derive(Debug, Args)]
pub struct CreateCode {
    /// Id or name of its organization.
    #[arg(long)]
    organization: String,
    /// How the box will be called; its model when this is not given.
    #[arg(long)]
    device_name: Option<String>,
    /// How long it may be used, such as 30m or 8h; at most a day.
    #[arg(long, default_value = "24h")]
    expires_in: SignedDuration,
}

impl CreateCode {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        let organization = admin::find_organization(db, &self.organization).await?;
        let key = WrappingKey::from_env()?;
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let (name, life) = (self.device_name.as_deref(), self.expires_in.as_secs());
        let made = codes::create(&tx, &key, organization, name, life, Timestamp::now()).await?;
        tx.commit().await?;
        let code = made["claim_code"].as_str().unwrap_or_default().to_owned();
        say(as_json, made, &code)
    }
}

/// List windows.
#[derive(Debug, Args)]
pub struct Windows {
    /// Only those that this organization has bound.
    #[arg(long)]
    organization: Option<String>,
}

impl Windows {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        let organization = match &self.organization {
            Some(name) => Some(admin::find_organization(db, name).await?),
            None => None,
        };
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let rows = bind::list(&tx, organization, None, Timestamp::now()).await?;
        if as_json {
            print(serde_json::to_string_pretty(&rows)?)?;
        } else if rows.is_empty() {
            eprintln!(
                "no window is open: hold the box's button for 3 seconds, or run \"sentrycam claim\" there"
            );
        } else {
            let columns = [
                "claim_id",
                "state",
                "model",
                "serial_ends_with",
                "age_s",
                "expires_in_s",
                "press",
            ];
            print(table::with(&columns, &rows))?;
        }
        Ok(())
    }
}

/// Bind a box.
#[derive(Debug, Args)]
pub struct Bind {
    /// The user code that the box shows (XXXX-XXXX), or the id of its window; then its button is to be pressed.
    #[arg(value_name = "CODE|ID")]
    which: String,
    /// Id or name of the organization that gets it.
    #[arg(long)]
    organization: String,
    /// How the box will be called; its model when this is not given.
    #[arg(long)]
    device_name: Option<String>,
}

impl Bind {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        let organization = admin::find_organization(db, &self.organization).await?;
        let binder = Binder {
            organization,
            device_name: self.device_name.as_deref(),
            network: None,
        };
        let now = Timestamp::now();
        let bound = match Uuid::parse_str(&self.which) {
            Ok(id) => bind::by_list_entry(db, &binder, id, now).await,
            Err(_) => {
                let key = WrappingKey::from_env()?;
                bind::by_user_code(db, &key, &Limits::default(), &binder, &self.which, now).await
            }
        };
        match bound {
            Ok(bound) => {
                let text = sentence(&bound);
                say(as_json, bound, &text)
            }
            Err(problem) => bail!("{}", problem.detail),
        }
    }
}

fn sentence(bound: &Value) -> String {
    match bound["press"].as_i64() {
        Some(times) => format!("press the button of the box {times} times, then wait two seconds"),
        None => format!(
            "bound as {}; the box has its credentials within seconds",
            bound["device_name"]
        ),
    }
}

/// Change a key.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The device.
    edge_id: String,
    /// Wait for its end and show each step; fails unless it succeeded.
    #[arg(long)]
    wait: bool,
}

impl Rotate {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let sent = rotate::ask(&tx, &self.edge_id, Timestamp::now()).await?;
        tx.commit().await?;
        super::command::finish(db, sent, self.wait, as_json).await
    }
}

/// End a claim.
#[derive(Debug, Args)]
pub struct Unclaim {
    /// The device.
    edge_id: String,
    /// What it wipes: its keys, or its records and clips too.
    #[arg(long, value_enum, default_value_t, conflicts_with = "now")]
    wipe: Wipe,
    /// Do not ask it: its next request gets a signed 410 and the broker throws it out; what it has not sent is lost.
    #[arg(long)]
    now: bool,
    /// Wait until it has done so and show each step; fails unless it succeeded.
    #[arg(long, conflicts_with = "now")]
    wait: bool,
}

impl Unclaim {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        if self.now {
            admin::unclaim(db, &self.edge_id).await?;
            let said = json!({ "edge_id": self.edge_id, "status": "unclaimed" });
            return say(as_json, said, &format!("{} is unclaimed", self.edge_id));
        }
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let sent = leave::ask(&tx, &self.edge_id, self.wipe, Timestamp::now()).await?;
        tx.commit().await?;
        super::command::finish(db, sent, self.wait, as_json).await
    }
}

/// Show or give a licence.
#[derive(Debug, Args)]
pub struct License {
    /// Id or name of the organization.
    #[arg(long)]
    organization: String,
    /// Give it this plan: basic, standard or market.
    #[arg(long)]
    plan: Option<String>,
    /// Boxes, instead of the plan's.
    #[arg(long, requires = "plan")]
    max_edge_servers: Option<i32>,
    /// Cameras, instead of the plan's.
    #[arg(long, requires = "plan")]
    max_cameras: Option<i32>,
    /// Modules, instead of the plan's, such as market.
    #[arg(long, requires = "plan", value_delimiter = ',')]
    modules: Option<Vec<String>>,
    /// When it ends, such as 2027-12-31T00:00:00Z; never when this is not given.
    #[arg(long, requires = "plan")]
    expires_at: Option<Timestamp>,
}

impl License {
    /// Does it.
    pub async fn run(self, db: &Db, as_json: bool) -> Result<()> {
        let organization = admin::find_organization(db, &self.organization).await?;
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        if let Some(plan) = &self.plan {
            let grant = Grant {
                plan,
                max_edge_servers: self.max_edge_servers,
                max_cameras: self.max_cameras,
                modules: self.modules,
                expires_at: self.expires_at,
            };
            license::grant(&tx, organization, &grant, Timestamp::now()).await?;
        }
        let limits = license::limits(&tx, organization, Timestamp::now()).await?;
        tx.commit().await?;
        let plan = match &limits.plan {
            Some(plan) => format!("{plan} ({})", limits.status),
            None => "no licence".to_owned(),
        };
        let text = format!(
            "{plan}: {} of {} boxes, {} of {} cameras, modules: {}",
            limits.edge_servers,
            limits.max_edge_servers,
            limits.cameras,
            limits.max_cameras,
            if limits.modules.is_empty() {
                "none".to_owned()
            } else {
                limits.modules.join(", ")
            },
        );
        say(as_json, json!(limits), &text)
    }
}
