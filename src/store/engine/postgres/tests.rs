//! Runs the suite of all engines on `PostgreSQL`, and the tests of this engine. They need a server:
//! `tests/postgres.sh` starts one and turns on the feature `postgres-tests`.

#[cfg(feature = "postgres-tests")]
mod backend;
#[cfg(feature = "postgres-tests")]
mod engines;
#[cfg(feature = "postgres-tests")]
mod groups;
#[cfg(feature = "postgres-tests")]
mod history;
#[cfg(feature = "postgres-tests")]
mod log;
#[cfg(feature = "postgres-tests")]
mod migration;
#[cfg(feature = "postgres-tests")]
mod model;
#[cfg(feature = "postgres-tests")]
mod plans;
#[cfg(feature = "postgres-tests")]
mod retention;
#[cfg(feature = "postgres-tests")]
mod server;
#[cfg(feature = "postgres-tests")]
mod settings;
#[cfg(feature = "postgres-tests")]
mod terms;

#[cfg(feature = "postgres-tests")]
use backend::Postgres as UnderTest;
#[cfg(feature = "postgres-tests")]
#[path = "../../contract/suite.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests on another engine")]
mod contract;

#[cfg(not(feature = "postgres-tests"))]
#[test]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
fn the_suite_of_every_engine_is_run_on_postgres() {
    panic!("run tests/postgres.sh");
}
