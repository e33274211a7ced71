//! How long `cargo check` takes on a crate of models after a change, its dependencies checked before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::world::World;

const MODELS: [usize; 3] = [1, 10, 50];

/// Below the root of the workspace.
const DIR: &str = "target/xtask/compile";

pub(super) async fn run(_: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let plan = Plan { rounds: 5.min(plan.rounds), ..plan };
    let mut groups = Vec::new();
    for models in MODELS {
        let mut contestants = vec![Contestant::ours("store", checking(package("store", models, STORE, ours)?))];
        if cfg!(feature = "rivals") {
            let path = package("sea-orm", models, SEA_ORM, theirs)?;
            contestants.push(Contestant::other("sea-orm", checking(path)));
        }
        groups.push(compete(&plan, format!("cargo check of {models} models"), 1, contestants).await?);
    }
    Ok(groups)
}

/// A slice of one check.
fn checking(package: PathBuf) -> impl Fn(Duration) -> Slice {
    let edits = AtomicU64::new(0);
    move |_| {
        let (package, edit) = (package.clone(), edits.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            let source = package.join("src/lib.rs");
            let text = fs::read_to_string(&source)?;
            let kept = text.split("// edit").next().unwrap_or_default();
            fs::write(&source, format!("{kept}// edit {edit} of {}\n", std::process::id()))?;
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["check", "--quiet", "--offline"]).current_dir(&package).kill_on_drop(true);
            // One directory for all: the dependencies are checked once, before the first recorded round.
            cargo.env("CARGO_TARGET_DIR", root().join(DIR).join("target"));
            let start = Instant::now();
            let output = cargo.output().await?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            let mut sample = Sample { items: 1, elapsed: start.elapsed(), ..Sample::default() };
            sample.latencies.add(sample.elapsed);
            Ok(sample)
        })
    }
}

/// Writes a package of its own with so many models.
fn package(name: &str, models: usize, dependency: &str, model: fn(usize) -> String) -> Result<PathBuf, Failure> {
    let (root, dir) = (root(), root().join(DIR).join(format!("{name}-{models}")));
    fs::create_dir_all(dir.join("src"))?;
    let dependency = dependency.replace("ROOT", &root.display().to_string());
    let manifest = format!(
        "[package]\nname = \"{name}-{models}-models\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         [dependencies]\n{dependency}\n\n[workspace]\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest)?;
    fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock"))?;
    fs::write(dir.join("src/lib.rs"), (0..models).map(model).collect::<String>())?;
    Ok(dir)
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

const STORE: &str = "storehaus = { path = \"ROOT\", default-features = false, features = [\"postgres\", \"redis\"] }";
const SEA_ORM: &str = "sea-orm = { version = \"2.0.4\", default-features = false, features = [\"macros\", \
     \"runtime-tokio\", \"sqlx-postgres\", \"with-chrono\", \"with-uuid\"] }";

fn ours(n: usize) -> String {
    format!(
        "pub mod m{n} {{\n    use storehaus::prelude::*;\n    #[derive(Clone, Debug, PartialEq, Model)]\n    \
         #[model(table = \"users{n}\")]\n    pub struct User {{\n        #[key]\n        pub id: Uuid,\n        \
         {FIELDS}        pub joined: DateTime<Utc>,\n    }}\n    \
         pub async fn of(store: &GenericStore<User>, id: Uuid) -> Option<User> {{\n        \
         store.get_by_id(&id).await.ok()?\n    }}\n}}\n"
    )
}

fn theirs(n: usize) -> String {
    format!(
        "pub mod m{n} {{\n    use sea_orm::entity::prelude::*;\n    \
         #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]\n    #[sea_orm(table_name = \"users{n}\")]\n    \
         pub struct Model {{\n        #[sea_orm(primary_key, auto_increment = false)]\n        pub id: Uuid,\n        \
         {FIELDS}        pub joined: DateTimeUtc,\n    }}\n    \
         #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]\n    pub enum Relation {{}}\n    \
         impl ActiveModelBehavior for ActiveModel {{}}\n    \
         pub async fn of(db: &sea_orm::DatabaseConnection, id: Uuid) -> Option<Model> {{\n        \
         Entity::find_by_id(id).one(db).await.ok()?\n    }}\n}}\n"
    )
}

const FIELDS: &str = "pub version: i64,\n        pub email: String,\n        pub name: String,\n        \
     pub city: String,\n        pub about: String,\n        pub active: bool,\n        pub score: f64,\n";
