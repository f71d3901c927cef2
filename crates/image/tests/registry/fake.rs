//! Against servers that lie, cut and stall.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyperion_image::registry::{Access, Credentials, Pulled, RegistryError, pull, push};
use hyperion_image::{Digest, ImageReference, Store, StoreError};
use hyperion_testkit::{HttpServer, Request};

use crate::sample::{Kind, Sample};
use crate::{insecure, partials, store};

fn sample() -> Sample {
    Sample::new("amd64", &[Kind::Plain], 200_000)
}

fn respond(out: &mut dyn Write, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    )?;
    out.write_all(body)
}

/// Answers as an honest registry that holds `sample`.
fn honest(sample: &Sample, request: &Request, out: &mut dyn Write) -> io::Result<()> {
    let path = request.target.as_str();
    if path.contains("/manifests/") {
        let header = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        return respond(out, "200 OK", header, &sample.manifest);
    }
    let blob = sample
        .blobs
        .iter()
        .find(|blob| path.ends_with(&Digest::of(blob).to_string()));
    let Some(blob) = blob else {
        let status = if path == "/v2/" {
            "200 OK"
        } else {
            "404 Not Found"
        };
        return respond(out, status, "", b"");
    };
    match offset(request) {
        None => respond(out, "200 OK", "", blob),
        Some(from) => {
            let header = format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                blob.len() - 1,
                blob.len()
            );
            respond(out, "206 Partial Content", &header, &blob[from..])
        }
    }
}

/// Where a request wants to resume.
fn offset(request: &Request) -> Option<usize> {
    request
        .header("range")?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// Sends the head for the whole blob and only a part of it.
fn cut(out: &mut dyn Write, blob: &[u8], part: usize) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        blob.len()
    )?;
    out.write_all(&blob[..part])
}

fn is_layer(sample: &Sample, request: &Request) -> bool {
    request.method == "GET"
        && request
            .target
            .ends_with(&Digest::of(sample.layer()).to_string())
}

/// A server that is honest but for what `answer` takes upon itself.
fn server(
    sample: &Arc<Sample>,
    answer: impl Fn(&Sample, &Request, &mut dyn Write) -> Option<io::Result<()>> + Send + Sync + 'static,
) -> HttpServer {
    let sample = sample.clone();
    HttpServer::start(move |request, out| {
        answer(&sample, request, out).unwrap_or_else(|| honest(&sample, request, out))
    })
}

fn name(server: &HttpServer) -> ImageReference {
    format!("{}/x:1", server.host())
        .parse()
        .expect("a valid name")
}

fn pull_from(server: &HttpServer, store: &Store) -> Result<Pulled, RegistryError> {
    pull(&insecure(), store, &name(server), None, &())
}

fn nothing_is_named(store: &Store) {
    assert_eq!(store.list().expect("listed"), []);
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let sample = Arc::new(sample());
    let server = server(&sample, |sample, request, out| {
        (is_layer(sample, request) && offset(request).is_none())
            .then(|| cut(out, sample.layer(), 50_000))
    });
    let (_dir, store) = store();
    let pulled = pull_from(&server, &store).expect("pulled");
    assert_eq!(pulled.digest, sample.digest);
    let resumed: Vec<_> = server.requests().iter().filter_map(offset).collect();
    assert_eq!(resumed, [50_000]);
    assert_eq!(partials(&store), 0);
}

#[test]
fn a_silent_server_is_asked_again() {
    let sample = Arc::new(sample());
    let asked = AtomicBool::new(false);
    let server = server(&sample, move |sample, request, out| {
        asked.fetch_or(offset(request).is_some(), Ordering::SeqCst);
        (is_layer(sample, request) && offset(request).is_none()).then(|| {
            cut(out, sample.layer(), 50_000)?;
            out.flush()?;
            // Open and silent until the next request has come.
            hyperion_testkit::wait_until(Duration::from_secs(60), || asked.load(Ordering::SeqCst));
            Ok(())
        })
    });
    let (_dir, store) = store();
    let mut access = insecure();
    access.backoff.silence = Duration::from_millis(200);
    let pulled = pull(&access, &store, &name(&server), None, &()).expect("pulled");
    assert_eq!(pulled.digest, sample.digest);
    let resumed: Vec<_> = server.requests().iter().filter_map(offset).collect();
    assert_eq!(resumed, [50_000]);
}

#[test]
fn a_later_pull_resumes_what_an_earlier_one_left() {
    let sample = Arc::new(sample());
    let cuts = server(&sample, |sample, request, out| {
        is_layer(sample, request).then(|| match offset(request) {
            None => cut(out, sample.layer(), 70_000),
            Some(_) => Ok(()),
        })
    });
    let (_dir, store) = store();
    let error = pull_from(&cuts, &store).expect_err("cut");
    assert!(matches!(error, RegistryError::Network { .. }), "{error:?}");
    nothing_is_named(&store);
    assert_eq!(partials(&store), 1);
    let server = server(&sample, |_, _, _| None);
    let pulled = pull_from(&server, &store).expect("pulled");
    assert_eq!(
        server
            .requests()
            .iter()
            .filter_map(offset)
            .collect::<Vec<_>>(),
        [70_000]
    );
    let config = sample.blobs[0].len();
    assert!(pulled.moved as usize <= sample.layer().len() - 70_000 + config);
}

#[test]
fn a_server_that_cannot_resume_begins_anew() {
    let sample = Arc::new(sample());
    let first = AtomicUsize::new(0);
    let server = server(&sample, move |sample, request, out| {
        is_layer(sample, request).then(|| match first.fetch_add(1, Ordering::SeqCst) {
            0 => cut(out, sample.layer(), 50_000),
            // A part from elsewhere, a refusal, then the whole.
            1 => {
                let header = "Content-Range: bytes 7-9/200\r\n";
                respond(out, "206 Partial Content", header, b"abc")
            }
            2 => cut(out, sample.layer(), 60_000),
            3 => respond(out, "416 Range Not Satisfiable", "", b""),
            4 => cut(out, sample.layer(), 70_000),
            _ => respond(out, "200 OK", "", sample.layer()),
        })
    });
    let (_dir, store) = store();
    assert_eq!(
        pull_from(&server, &store).expect("pulled").digest,
        sample.digest
    );
}

#[test]
fn leftovers_that_are_wrong_are_fetched_again() {
    let sample = Arc::new(sample());
    let server = server(&sample, |_, _, _| None);
    let (_dir, store) = store();
    let partial = store
        .dir()
        .join("partial")
        .join(Digest::of(sample.layer()).hex());
    std::fs::write(partial, vec![7; 1000]).expect("written");
    assert_eq!(
        pull_from(&server, &store).expect("pulled").digest,
        sample.digest
    );
}

#[test]
fn a_layer_that_always_ends_early_is_an_error() {
    let sample = Arc::new(sample());
    let server = server(&sample, |sample, request, out| {
        is_layer(sample, request).then(|| respond(out, "200 OK", "", &sample.layer()[..100]))
    });
    let (_dir, store) = store();
    let error = pull_from(&server, &store).expect_err("truncated");
    assert!(
        matches!(error, RegistryError::Truncated { got: 100, .. }),
        "{error:?}"
    );
    nothing_is_named(&store);
}

#[test]
fn wrong_content_is_refused_and_not_kept() {
    let sample = Arc::new(sample());
    let server = server(&sample, |sample, request, out| {
        let mut wrong = sample.layer().to_vec();
        wrong[1000] ^= 1;
        is_layer(sample, request).then(|| respond(out, "200 OK", "", &wrong))
    });
    let (_dir, store) = store();
    let error = pull_from(&server, &store).expect_err("wrong");
    assert!(
        matches!(error, RegistryError::Store(StoreError::WrongDigest { .. })),
        "{error:?}"
    );
    nothing_is_named(&store);
    assert_eq!(partials(&store), 0);
}

#[test]
fn more_than_was_announced_is_not_taken() {
    let sample = Arc::new(sample());
    let server = server(&sample, |sample, request, out| {
        is_layer(sample, request).then(|| {
            let mut long = sample.layer().to_vec();
            long.resize(long.len() * 2, 0);
            respond(out, "200 OK", "", &long)
        })
    });
    let (_dir, store) = store();
    let error = pull_from(&server, &store).expect_err("too long");
    assert!(matches!(error, RegistryError::TooLong { .. }), "{error:?}");
    let partial = store
        .dir()
        .join("partial")
        .join(Digest::of(sample.layer()).hex());
    let left = std::fs::metadata(partial).map_or(0, |m| m.len());
    assert!(left <= sample.layer().len() as u64);
}

#[test]
fn manifests_are_bounded_and_checked() {
    let sample = Arc::new(sample());
    let (_dir, store) = store();
    let answer = |headers: &'static str, body: Vec<u8>| {
        server(&sample, move |_, request, out| {
            request
                .target
                .contains("/manifests/")
                .then(|| respond(out, "200 OK", headers, &body))
        })
    };
    let error = |server: &HttpServer| {
        let error = pull_from(server, &store).expect_err("refused");
        nothing_is_named(&store);
        error
    };
    let huge = answer("", vec![b' '; 17 << 20]);
    assert!(matches!(error(&huge), RegistryError::TooLarge { .. }));
    let junk = answer("", b"{\"schemaVersion\":2,\"config\":".to_vec());
    assert!(matches!(error(&junk), RegistryError::BadManifest { .. }));
    let page = answer("Content-Type: text/html\r\n", b"<html>".to_vec());
    assert!(matches!(error(&page), RegistryError::BadManifest { .. }));
    let old = answer(
        "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n",
        b"{\"schemaVersion\":1,\"name\":\"x\"}".to_vec(),
    );
    assert!(matches!(error(&old), RegistryError::NotAnImage { .. }));
    let chart = String::from_utf8(sample.manifest.clone())
        .expect("text")
        .replace(
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.cncf.helm.chart",
        );
    let chart = answer("", chart.into_bytes());
    assert!(matches!(error(&chart), RegistryError::NotAnImage { .. }));

    let server = server(&sample, |_, _, _| None);
    let other = Digest::of(b"another");
    let pinned = format!("{}/x@{other}", server.host())
        .parse()
        .expect("a valid name");
    let error = pull(&insecure(), &store, &pinned, None, &()).expect_err("another");
    assert!(
        matches!(error, RegistryError::WrongManifest { .. }),
        "{error:?}"
    );
}

#[test]
fn an_image_that_cannot_fit_is_refused_at_once() {
    let sample = Arc::new(sample());
    let text = String::from_utf8(sample.manifest.clone()).expect("text");
    let size = format!("\"size\":{}", sample.layer().len());
    assert!(text.contains(&size));
    let vast = text.replace(&size, "\"size\":9007199254740991");
    let server = server(&sample, move |_, request, out| {
        request
            .target
            .contains("/manifests/")
            .then(|| respond(out, "200 OK", "", vast.as_bytes()))
    });
    let (_dir, store) = store();
    let error = pull_from(&server, &store).expect_err("too large");
    assert!(matches!(error, RegistryError::NoSpace { .. }), "{error:?}");
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| is_layer(&sample, request))
    );
}

#[test]
fn transient_errors_are_tried_again_and_lasting_ones_told() {
    let sample = Arc::new(sample());
    let count = AtomicUsize::new(0);
    let flaky = server(&sample, move |_, _, out| {
        match count.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => Some(respond(out, "503 Service Unavailable", "", b"")),
            1 => Some(respond(
                out,
                "429 Too Many Requests",
                "Retry-After: 0\r\n",
                b"",
            )),
            _ => None,
        }
    });
    let (_dir, store) = store();
    assert_eq!(
        pull_from(&flaky, &store).expect("pulled").digest,
        sample.digest
    );

    let always = |status: &'static str, body: &'static str| {
        server(&sample, move |_, _, out| {
            Some(respond(out, status, "", body.as_bytes()))
        })
    };
    let error = |server: &HttpServer| pull_from(server, &store).expect_err("refused");
    let down = error(&always("502 Bad Gateway", "<html>nginx</html>"));
    assert!(down.to_string().ends_with(" answered 502"), "{down}");
    let missing = error(&always("404 Not Found", ""));
    assert!(
        matches!(missing, RegistryError::NoImage { .. }),
        "{missing:?}"
    );
    let forbidden = error(&always(
        "403 Forbidden",
        "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not \\u001b[31myours\"}]}",
    ));
    assert!(
        matches!(forbidden, RegistryError::Forbidden { .. }),
        "{forbidden:?}"
    );
    assert!(
        forbidden.to_string().ends_with(": not  [31myours"),
        "{forbidden}"
    );
}

#[test]
fn hosts_that_are_not_there_are_told_apart() {
    let (_dir, store) = store();
    let pull = |name: &str| {
        let access = Access {
            insecure: false,
            ..insecure()
        };
        let name = name.parse().expect("a valid name");
        pull(&access, &store, &name, None, &()).expect_err("nobody is there")
    };
    let refused = pull("127.0.0.1:1/x");
    assert!(
        matches!(refused, RegistryError::Refused { .. }),
        "{refused:?}"
    );
    let unknown = pull("no-such-host.invalid/x");
    assert!(
        matches!(unknown, RegistryError::UnknownHost { .. }),
        "{unknown:?}"
    );
}

/// Answers 401 with a challenge until the token comes, and gives it at `/token`.
fn guarded(sample: &Arc<Sample>) -> HttpServer {
    let sample = sample.clone();
    HttpServer::start(move |request, out| {
        if request.target.starts_with("/token") {
            return respond(out, "200 OK", "", b"{\"access_token\":\"opaque\"}");
        }
        if request.header("authorization") == Some("Bearer opaque") {
            return honest(&sample, request, out);
        }
        let header = "WWW-Authenticate: Bearer realm=\"/token\",service=\"s\"\r\n";
        respond(out, "401 Unauthorized", header, b"")
    })
}

#[test]
fn tokens_are_fetched_with_what_credentials_there_are() {
    let sample = Arc::new(sample());
    let asked = |credentials: Option<Credentials>| {
        let server = guarded(&sample);
        let (_dir, store) = store();
        let access = Access {
            credentials,
            ..insecure()
        };
        pull(&access, &store, &name(&server), None, &()).expect("pulled");
        let requests = server.requests();
        let tokens: Vec<_> = requests
            .into_iter()
            .filter(|r| r.target.starts_with("/token"))
            .collect();
        // One token does for manifest and blobs.
        assert_eq!(tokens.len(), 1);
        tokens[0].clone()
    };
    let anonymous = asked(None);
    assert_eq!(
        anonymous.target,
        "/token?scope=repository%3Ax%3Apull&service=s"
    );
    assert_eq!(anonymous.header("authorization"), None);
    let password = asked(Some(Credentials::Password {
        user: "u".into(),
        password: "p".into(),
    }));
    assert_eq!(password.header("authorization"), Some("Basic dTpw"));
    let identity = asked(Some(Credentials::Identity("i d".into())));
    assert_eq!(identity.method, "POST");
    assert_eq!(
        String::from_utf8_lossy(&identity.body),
        "scope=repository%3Ax%3Apull&service=s&grant_type=refresh_token&client_id=hyperion&refresh_token=i+d"
    );
}

#[test]
fn a_cut_upload_goes_on_where_the_registry_stands() {
    let sample = Arc::new(sample());
    let layer = Digest::of(sample.layer()).to_string();
    let cut = AtomicUsize::new(0);
    let server = {
        let layer = layer.clone();
        HttpServer::start(move |request, out| {
            let whole = request.target.contains(&layer.replace(':', "%3A"));
            match (request.method.as_str(), request.target.as_str()) {
                (_, "/v2/") => respond(out, "200 OK", "", b""),
                ("HEAD", _) => respond(out, "404 Not Found", "", b""),
                ("POST", _) => respond(
                    out,
                    "202 Accepted",
                    "Location: /v2/x/blobs/uploads/u?state=1\r\n",
                    b"",
                ),
                // The first whole one breaks off; 5,000 bytes have arrived.
                ("PUT", _) if whole && cut.fetch_add(1, Ordering::SeqCst) == 0 => Ok(()),
                ("GET", _) => {
                    let headers = "Location: /v2/x/blobs/uploads/u?state=2\r\nRange: 0-4999\r\n";
                    respond(out, "204 No Content", headers, b"")
                }
                ("PATCH", _) => respond(
                    out,
                    "202 Accepted",
                    "Location: /v2/x/blobs/uploads/u?state=3\r\n",
                    b"",
                ),
                _ => respond(out, "201 Created", "", b""),
            }
        })
    };
    let (_dir, store) = store();
    sample.put(&store);
    push(&insecure(), &store, &[sample.digest], &name(&server), &()).expect("pushed");
    let requests = server.requests();
    let patch = requests
        .iter()
        .find(|r| r.method == "PATCH")
        .expect("a part was sent");
    assert_eq!(patch.target, "/v2/x/blobs/uploads/u?state=2");
    assert_eq!(patch.body, sample.layer()[5000..]);
    let range = format!("5000-{}", sample.layer().len() - 1);
    assert_eq!(patch.header("content-range"), Some(range.as_str()));
    let last = format!(
        "/v2/x/blobs/uploads/u?state=3&digest={}",
        layer.replace(':', "%3A")
    );
    assert!(
        requests
            .iter()
            .any(|r| r.method == "PUT" && r.target == last && r.body.is_empty())
    );
}

#[test]
fn credentials_stay_with_the_registry() {
    let sample = Arc::new(sample());
    let elsewhere = HttpServer::start(|_, out| respond(out, "201 Created", "", b""));
    let location = format!("Location: http://{}/upload\r\n", elsewhere.host());
    let server = HttpServer::start(move |request, out| {
        if request.header("authorization") != Some("Basic dTpw") {
            return respond(
                out,
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=x\r\n",
                b"",
            );
        }
        match request.method.as_str() {
            "HEAD" => respond(out, "404 Not Found", "", b""),
            "POST" => respond(out, "202 Accepted", &location, b""),
            _ => respond(out, "201 Created", "", b""),
        }
    });
    let (_dir, store) = store();
    sample.put(&store);
    let access = Access {
        credentials: Some(Credentials::Password {
            user: "u".into(),
            password: "p".into(),
        }),
        ..insecure()
    };
    push(&access, &store, &[sample.digest], &name(&server), &()).expect("pushed");
    let uploads = elsewhere.requests();
    assert_eq!(uploads.len(), 2);
    assert!(
        uploads
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    assert!(uploads.iter().any(|request| request.body == sample.layer()));
}
