//! Targets behind TLS, with roots and client certificates of their own.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::bridge::command;
use crate::support::soon;
use crate::support::world::{World, assert_each_once, listen};

/// A certificate authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `name` and its key.
    fn certify(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server for 127.0.0.1; with `clients`, it wants a certificate from them.
    fn server(&self, clients: Option<&Self>) -> TlsAcceptor {
        let (certificate, key) = self.certify("127.0.0.1");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![certificate.der().clone()];
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

/// Puts TLS before the target at `url`; answers the address of that, with https.
async fn secure(url: &str, acceptor: TlsAcceptor, served: &mut JoinSet<()>) -> String {
    let (listener, secured) = listen().await;
    let plain = url.trim_start_matches("http://").to_owned();
    served.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            connections.spawn(async move {
                // Clients that do not trust it, or are not trusted, end here.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut target = TcpStream::connect(plain).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut target).await;
            });
        }
    });
    secured.replace("http", "https")
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_and_client_certificates_are_those_that_are_configured() {
    let mut world = World::new(World::with_duplicates()).await;
    let mut served = JoinSet::new();
    let (ours, others) = (Authority::new(), Authority::new());
    let file = |name: &str, content: String| -> PathBuf {
        let path = world.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (certificate, key) = ours.certify("pepay-bridge");
    let ca_file = file("ca.pem", ours.0.pem());
    let cert_file = file("client.pem", certificate.pem());
    let key_file = file("client-key.pem", key.serialize_pem());

    let (open, mutual) = (ours.server(None), ours.server(Some(&ours)));
    let mut targets = Vec::new();
    for (name, acceptor, ca, identity, welcome) in [
        ("trusting", open.clone(), true, false, true),
        ("doubting", open, false, false, false),
        ("known", mutual.clone(), true, true, true),
        ("unknown", mutual, true, false, false),
        ("stranger", ours.server(Some(&others)), true, true, false),
    ] {
        let target = world.target(name).await;
        let key = format!("TARGETS__{}__URL", name.to_uppercase());
        let secured = secure(&world.configuration[&key], acceptor, &mut served).await;
        world.set(&key, &secured);
        if ca {
            world.set_target(name, "CA_FILE", ca_file.to_str().unwrap());
        }
        if identity {
            world.set_target(name, "CLIENT_CERT_FILE", cert_file.to_str().unwrap());
            world.set_target(name, "CLIENT_KEY_FILE", key_file.to_str().unwrap());
        }
        targets.push((name, target, welcome));
    }
    let doctor = soon("the doctor's visit", command(&world.configuration).arg("doctor").output());
    let found = String::from_utf8(doctor.await.unwrap().stdout).unwrap();
    for (start, name, says) in [
        ("ok", "trusting", "connects, with TLS"),
        ("ok", "known", "connects, with TLS"),
        ("FAILED", "doubting", "cannot connect: invalid peer certificate"),
    ] {
        let line = found.lines().find(|line| line.contains(&format!("target {name} "))).unwrap();
        assert!(line.starts_with(start) && line.contains(says), "{line}");
    }

    let mut bridge = world.bridge().await;
    let ids = world.simulator.play(5);
    for (name, target, welcome) in &targets {
        if *welcome {
            soon(name, target.until(|totals| totals.unique == 5)).await;
            assert_each_once(target, &ids);
        } else {
            let failed = |line: &serde_json::Value| line["target"] == *name && line["attempt"] == 3;
            let line = bridge.logged_where(name, failed).await;
            assert_eq!(line["message"], "delivery failed, will retry");
            if *name == "doubting" {
                let error = line["error"].as_str().unwrap();
                assert!(error.contains("cannot connect: invalid peer certificate"), "{error}");
            }
            assert_eq!(target.totals().received, 0, "{name}");
        }
    }
    bridge.stop().await;
}
