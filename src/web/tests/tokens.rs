//! Tests of the private listener's tokens: the paths that need one, and the scopes.

use super::*;

#[tokio::test]
async fn tokens_can_be_replaced_while_requests_come() {
    let shown = Shown::new().await;
    let (old, new) = (operating("server.admin_token", "old"), operating("server.admin_token", "new"));
    let more = operating("server.tokens.more", "more");
    let tokens = Tokens::new(std::slice::from_ref(&old));
    let (router, _) = admin(
        shown.view.clone(),
        Arc::new(String::new),
        &tokens,
        Arc::new(Obedient::default()),
        shown.trail(),
    );
    let admitted = async |bearer: Option<&str>| {
        ask(router.clone(), Method::GET, "/metrics", bearer).await.0 == StatusCode::OK
    };
    assert!(admitted(Some("Bearer old")).await);
    assert_eq!(tokens.replace(&[old]), [""; 0]);
    assert_eq!(
        tokens.replace(&[new.clone(), more.clone()]),
        ["server.admin_token changed", "server.tokens.more added"]
    );
    assert!(!admitted(Some("Bearer old")).await && admitted(Some("Bearer new")).await);
    assert!(admitted(Some("Bearer more")).await);
    let lesser = Token { scope: Scope::Read, ..more };
    assert_eq!(tokens.replace(&[new, lesser]), ["server.tokens.more changed"]);
    assert_eq!(tokens.replace(&[]), ["server.admin_token removed", "server.tokens.more removed"]);
    assert!(admitted(None).await);
}

#[tokio::test]
async fn a_token_may_do_what_its_scope_includes_and_no_more() {
    let shown = Shown::new().await;
    shown.store_event("evt_1", 30).await;
    let tokens = [Scope::Metrics, Scope::Read, Scope::Operate].map(|scope| Token {
        name: format!("{scope:?}").into(),
        scope,
        secret: format!("{scope:?}").into(),
    });
    let (router, _) = admin(
        shown.view.clone(),
        Arc::new(String::new),
        &Tokens::new(&tokens),
        Arc::new(Obedient::default()),
        shown.trail(),
    );
    for (method, path, least) in [
        (Method::GET, "/metrics", Scope::Metrics),
        (Method::HEAD, "/metrics", Scope::Metrics),
        (Method::GET, "/status", Scope::Metrics),
        (Method::GET, "/api/v1/overview", Scope::Read),
        (Method::GET, "/api/v1/events/evt_1/body", Scope::Read),
        (Method::GET, "/api/openapi.json", Scope::Read),
        (Method::POST, "/api/v1/events/evt_1/verify", Scope::Read),
        (Method::POST, "/api/v1/events/evt_1/replay", Scope::Operate),
        (Method::POST, "/api/v1/targets/orders/pause", Scope::Operate),
        (Method::POST, "/api/v1/targets/orders/test", Scope::Operate),
        (Method::POST, "/api/v1/deliveries/retry", Scope::Operate),
        (Method::POST, "/api/v1/reload", Scope::Operate),
        (Method::DELETE, "/api/v1/reload", Scope::Operate),
        (Method::POST, "/metrics", Scope::Metrics),
        (Method::GET, "/nowhere", Scope::Read),
    ] {
        for token in &tokens {
            let bearer = format!("Bearer {}", token.name);
            let (status, headers, body) = ask(router.clone(), method.clone(), path, Some(&bearer)).await;
            let what = format!("{method} {path} by {}", token.name);
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{what}");
            let refused = status == StatusCode::FORBIDDEN;
            assert_eq!(refused, token.scope < least, "{what}: {status} {body}");
            if refused {
                assert!(body.contains("insufficient_scope") || method == Method::HEAD, "{what}: {body}");
                let challenge = headers["www-authenticate"].to_str().unwrap();
                assert!(challenge.contains("insufficient_scope"), "{challenge}");
            }
        }
    }
}

#[tokio::test]
async fn the_token_guards_everything_but_health() {
    let shown = Shown::new().await;
    for path in ["/metrics", "/status", "/nowhere"] {
        for bearer in [
            None,
            Some("hunter2"),
            Some("Bearer"),
            Some("Bearer hunter"),
            Some("Bearer hunter22"),
            Some("Basic hunter2"),
        ] {
            let (status, headers, body) = ask(shown.admin(Some("hunter2")), Method::GET, path, bearer).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} with {bearer:?}");
            assert_eq!(headers["www-authenticate"], "Bearer realm=\"pepay-bridge\"");
            assert!(body.contains("\"unauthorized\""), "{body}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(shown.admin(Some("hunter2")), Method::GET, path, None).await.0, StatusCode::OK);
    }
    for bearer in ["Bearer hunter2", "bearer  hunter2"] {
        let (status, _, body) =
            ask(shown.admin(Some("hunter2")), Method::GET, "/metrics", Some(bearer)).await;
        assert_eq!((status, &*body), (StatusCode::OK, "rendered"));
    }
}
