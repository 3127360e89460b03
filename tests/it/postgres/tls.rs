//! TLS between a bridge and the server. The server has a certificate by an authority of the test,
//! and demands a client's certificate for one database. The test changes files of the server, so
//! it has to run as root or as the user of the server.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::{Database, world};
use crate::support::bridge::refused;
use crate::support::tls::Authority;
use crate::support::world::{World, assert_each_once};
use crate::support::{eventually, soon};

/// Returns whether every connection of a bridge to the database is encrypted.
const ENCRYPTED: &str = "SELECT bool_and(s.ssl)::text FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                         WHERE a.application_name LIKE 'pepay-bridge%' AND a.datname = $1";

/// Counts the connections of a bridge that listen.
const LISTENING: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = $1 \
                         AND application_name = 'pepay-bridge listener' AND query LIKE 'LISTEN%'";

/// Makes the server encrypt, with a certificate for `localhost` by `authority`. Clients of `database`
/// have to show a certificate by `authority`.
async fn encrypt(database: &mut Database, authority: &Authority) {
    let data = PathBuf::from(
        look_up(
            database,
            "SELECT setting FROM pg_settings WHERE name = 'data_directory' AND $1::text IS NOT NULL",
        )
        .await,
    );
    let (certificate, key) = authority.certify("localhost");
    let mut changes = vec![("ssl".to_owned(), "on".to_owned())];
    for (setting, name, text) in [
        ("ssl_cert_file", "server.crt", certificate.pem()),
        ("ssl_key_file", "server.key", key.serialize_pem()),
        ("ssl_ca_file", "clients.crt", authority.pem()),
    ] {
        write_as_its_owner(&data, &data.join(name), &text);
        changes.push((setting.to_owned(), name.to_owned()));
    }
    let access = data.join("pg_hba.conf");
    let before = fs::read_to_string(&access).unwrap();
    let rule = format!("hostssl {} all 127.0.0.1/32 trust clientcert=verify-full\n", database.name);
    write_as_its_owner(&data, &access, &format!("{rule}{before}"));
    for (setting, value) in changes {
        let change = format!("ALTER SYSTEM SET {setting} = '{value}'");
        database.server.execute(AssertSqlSafe(change)).await.unwrap();
    }
    database.server.execute("SELECT pg_reload_conf()").await.unwrap();
}

/// Writes a file that only the user of the server can read: the server refuses other keys.
fn write_as_its_owner(data: &Path, path: &Path, text: &str) {
    let owner = fs::metadata(data).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Writes a certificate for the user `name` of the server, and its key. Returns the paths.
fn client_identity(world: &World, authority: &Authority, name: &str) -> (String, String) {
    let (certificate, key) = authority.certify_user(name);
    let file = |suffix: &str, text: String| {
        let path = world.folder.path().join(format!("{name}.{suffix}"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (file("crt", certificate.pem()), file("key", key.serialize_pem()))
}

/// Writes the certificate of `authority` to a file. Returns its path.
fn saved(world: &World, name: &str, authority: &Authority) -> String {
    let path = world.folder.path().join(name);
    fs::write(&path, authority.pem()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns `url` with another host.
fn at(url: &str, host: &str) -> String {
    let mut url: reqwest::Url = url.parse().unwrap();
    url.set_host(Some(host)).unwrap();
    url.to_string()
}

/// Returns the only value of `query`, whose parameter is the name of the database. The connection is
/// to another database.
async fn look_up(database: &mut Database, query: &'static str) -> String {
    let row = sqlx::query(query).bind(&database.name).fetch_one(&mut database.server).await.unwrap();
    row.get(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn a_server_is_trusted_by_its_authority_and_name_and_may_demand_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (mut world, mut database) = world().await;
    encrypt(&mut database, &authority).await;
    let target = world.target("orders").await;
    let (ca, wrong_ca) = (saved(&world, "ca.pem", &authority), saved(&world, "other.pem", &other));
    let (localhost, address) = (at(&database.url, "localhost"), at(&database.url, "127.0.0.1"));
    world.set("STORE__CA_FILE", &ca);

    // Authority and name of the server are right. It demands a certificate.
    world.set("STORE__URL", &localhost);
    let said = eventually("the server to encrypt", async || {
        Some(refused(&world.configuration).await.1).filter(|said| said.contains("certificate"))
    })
    .await;
    assert!(said.contains("valid client certificate"), "{said}");
    let (certificate, key) = client_identity(&world, &authority, "postgres");
    let (stranger, stranger_key) = client_identity(&world, &other, "stranger");
    world.set("STORE__CLIENT_CERT_FILE", &stranger);
    world.set("STORE__CLIENT_KEY_FILE", &stranger_key);
    let said = refused(&world.configuration).await.1;
    assert!(said.contains("localhost"), "a certificate by another authority: {said}");
    world.set("STORE__CLIENT_CERT_FILE", &certificate);
    world.set("STORE__CLIENT_KEY_FILE", &key);

    for (what, url, ca, expected) in [
        ("another authority", &localhost, &wrong_ca, "certificate"),
        ("another name", &address, &ca, "not valid for name"),
    ] {
        world.set("STORE__URL", url);
        world.set("STORE__CA_FILE", ca);
        let said = refused(&world.configuration).await.1;
        assert!(said.contains(expected), "{what}: {said}");
    }

    world.set("STORE__URL", &localhost);
    world.set("STORE__CA_FILE", &ca);
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(20);
    soon("the deliveries", target.until(|totals| totals.unique >= 20)).await;
    assert_eq!(look_up(&mut database, ENCRYPTED).await, "true");
    assert!(bridge.stop().await.0.success());

    // The same holds for the connection that listens. A bridge works without it too.
    for (listen_url, listens) in [(&localhost, "1"), (&address, "0")] {
        world.set("STORE__LISTEN_URL", listen_url);
        let mut bridge = world.bridge().await;
        if listens == "0" {
            bridge.logged("hints of other replicas are not heard").await;
        }
        ids.extend(world.simulator.play(20));
        let expected = ids.len() as u64;
        soon("the deliveries", target.until(|totals| totals.unique >= expected)).await;
        eventually("a connection that listens", async || {
            (look_up(&mut database, LISTENING).await == listens).then_some(())
        })
        .await;
        assert!(bridge.stop().await.0.success());
    }
    assert_each_once(&target, &ids);
}
