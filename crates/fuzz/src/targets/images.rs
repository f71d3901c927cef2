//! Images and registries: archives, layouts, and what a registry says.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Component, Path};

use hyperion_image::{Store, archive, fuzz};

use super::texts;
use crate::{Target, script};

pub(super) const ARCHIVE: Target = Target {
    name: "archive",
    about: "an archive of images, OCI's or docker's: after all images are removed the store is empty",
    run: load_archive,
    seeds: || texts(IMAGES),
    words: JSON_WORDS,
};

pub(super) const LAYOUT: Target = Target {
    name: "layout",
    about: "an OCI layout in a folder, as `archive`",
    run: load_folder,
    seeds: || texts(IMAGES),
    words: JSON_WORDS,
};

pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    about: "a manifest or an index of a registry, and the choice of a platform",
    run: |bytes| {
        for header in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "text/plain",
        ] {
            fuzz::manifest(bytes, header);
        }
    },
    seeds: || {
        texts(&[
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7,"platform":{"architecture":"arm","os":"linux","variant":"v7"}},{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7,"platform":{"architecture":"unknown","os":"unknown"}}]}"#,
            r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":18446744073709551615},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}]}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
        ])
    },
    words: JSON_WORDS,
};

pub(super) const CHALLENGE: Target = Target {
    name: "challenge",
    about: "what a registry asks for: `WWW-Authenticate`",
    run: |bytes| fuzz::challenge(&String::from_utf8_lossy(bytes)),
    seeds: || {
        texts(&[
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            r#"Basic realm="a, \"b\"", BEARER Realm = "https://t/" , service=s"#,
        ])
    },
    words: &[
        "Bearer ", "Basic ", "realm=", "service=", "scope=", "\"", ",", "=",
    ],
};

pub(super) const CREDENTIALS: Target = Target {
    name: "credentials",
    about: "docker's config.json and podman's auth.json",
    run: |bytes| {
        fuzz::credentials(bytes, "docker.io", "library/debian");
        fuzz::credentials(bytes, "r.io:5000", "a/b/c");
    },
    seeds: || {
        texts(&[
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpzZWNyZXQ="},"r.io:5000/a":{"identitytoken":"t"}},"credsStore":"pass"}"#,
            r#"{"auths":{"r.io:5000":{"username":"u","password":"p"},"r.io:5000/a/b/c":{"registrytoken":"x"}},"credHelpers":{"r.io:5000":"gcr"}}"#,
        ])
    },
    words: &[
        "\"auths\"",
        "\"auth\"",
        "\"credHelpers\"",
        "\"credsStore\"",
        "\"identitytoken\"",
        "dXNlcjo=",
        "https://",
        "/v1/",
        "r.io:5000",
    ],
};

const JSON_WORDS: &[&str] = &[
    "{1}",
    "{2}",
    "{3}",
    "{4}",
    "sha256:",
    "=index.json\n",
    "=manifest.json\n",
    "=oci-layout\n",
    "=blobs/sha256/",
    "\"manifests\"",
    "\"mediaType\"",
    "\"digest\"",
    "\"size\"",
    "\"layers\"",
    "\"config\"",
    "\"annotations\"",
    "\"platform\"",
    "\"rootfs\"",
    "\"diff_ids\"",
    "null",
    "[]",
    "-1",
    "18446744073709551615",
    "1e999",
    " -> ",
    "../",
    "application/vnd.oci.image.index.v1+json",
    "org.opencontainers.image.ref.name",
];

const IMAGES: &[&str] = &[
    // An OCI layout with one image and its name.
    r#"=oci-layout
{"imageLayoutVersion":"1.0.0"}
=index.json
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{2}","size":1,"annotations":{"io.containerd.image.name":"docker.io/library/x:1","org.opencontainers.image.ref.name":"1"}}]}
=blobs/sha256/{2}
{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{3}","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{4}","size":3}]}
=blobs/sha256/{3}
{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":null,"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":["sha256:{4}"]},"history":[{"created_by":"x"}]}
=blobs/sha256/{4}
layer
"#,
    // An index inside the index.
    r#"=index.json
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:{1}","size":1,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}
=blobs/sha256/{1}
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{2}","size":1,"platform":{"architecture":"amd64","os":"linux"}}]}
=blobs/sha256/{2}
{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:{3}","size":2},"layers":[]}
=blobs/sha256/{3}
{"rootfs":{"diff_ids":[]}}
"#,
    // Docker's archive, with a layer that is a link.
    r#"=manifest.json
[{"Config":"{2}.json","RepoTags":["x:1","x:2"],"Layers":["a/layer.tar","b/layer.tar"]}]
=b/layer.tar -> ../a/layer.tar
={2}.json
{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:{3}","sha256:{3}"]}}
=a/layer.tar
layer
"#,
];

fn load_archive(text: &[u8]) {
    let documents = script::documents(text);
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&script::archive(&documents))
        .and_then(|()| file.rewind())
        .expect("written");
    with_store(|store, _| {
        let path = Path::new("dir/images.tar");
        let _ = archive::load_stream(store, file, path, Some("given"));
    });
}

fn load_folder(text: &[u8]) {
    let documents = script::documents(text);
    with_store(|store, folder| {
        for document in &documents {
            write(folder, document);
        }
        let _ = archive::load(store, folder, None);
    });
}

/// Puts a file, or a link, below a folder, if its name stays there.
fn write(folder: &Path, document: &script::Document) {
    let (name, link) = document
        .name
        .split_once(" -> ")
        .unwrap_or((&document.name, ""));
    let name = Path::new(name);
    let plain = |part| matches!(part, Component::Normal(_));
    if !name.components().all(plain) || name.as_os_str().is_empty() || name.as_os_str().len() > 500
    {
        return;
    }
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    let _ = std::fs::create_dir_all(parent);
    let _ = match link {
        "" => File::create(&path).and_then(|mut file| file.write_all(&document.content)),
        link => std::os::unix::fs::symlink(link, &path),
    };
}

/// Loads into a new store; whatever came of it, it can be emptied again.
fn with_store(load: impl FnOnce(&Store, &Path)) {
    let scratch = scratch();
    let (dir, input) = (scratch.path().join("store"), scratch.path().join("input"));
    std::fs::create_dir(&input).expect("made");
    let store = Store::open(&dir).expect("made");
    load(&store, &input);
    let images = store.list().expect("the store can be listed");
    if images.is_empty() {
        assert_empty(&dir, &["blobs/sha256", "partial"]);
    }
    for image in images {
        let record = store
            .resolve(&image.name)
            .expect("what has a name is whole");
        let _ = store.history(&record);
        store.remove(&image.name, true).expect("it can be removed");
    }
    store.prune().expect("the store can be pruned");
    assert_empty(&dir, &["blobs/sha256", "partial"]);
    assert_empty(&dir, &["refs", "records", "layers", "erofs", "tmp"]);
    let outside = std::fs::read_dir(scratch.path()).expect("a folder").count();
    assert_eq!(outside, 2, "something was written beside the store");
}

fn assert_empty(store: &Path, folders: &[&str]) {
    for folder in folders {
        let mut left = std::fs::read_dir(store.join(folder)).expect("a folder of the store");
        assert!(left.next().is_none(), "something stays in {folder}");
    }
}

/// An empty folder, in memory where that is possible.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let base = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let folder = tempfile::Builder::new()
        .prefix("hyperion-fuzz-")
        .tempdir_in(base);
    folder.expect("a temporary folder")
}
