//! A node filled with everything that it can hold, and a picture of all that can be seen of it.

use std::collections::BTreeMap;

use crate::s3::{Client, Reply, elements};

/// What S3 wants of parts but the last: more than one chunk.
pub const PART_MIN: usize = 5 << 20;
/// Bytes up to here lie in the version itself, others in chunks.
const INLINE_MAX: usize = 4096;
/// Long after these tests.
const UNTIL: &str = "2099-01-01T00:00:00Z";

/// Bytes that differ by their name.
pub fn content(name: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn version_of(reply: &Reply) -> String {
    reply.header("x-amz-version-id").to_owned()
}

/// How much a node is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Bytes of what is large.
    pub large: usize,
    /// Keys of each sort.
    pub keys: usize,
}

/// Makes buckets and objects of all sorts; `round` makes their names new.
pub fn fill(client: &mut Client, round: &str, fill: Fill) {
    let Fill { large, keys } = fill;
    let buckets: [&str; 5] = ["plain", "kept", "held", "paused", "gone"];
    let [plain, kept, held, paused, gone] = buckets.map(|name| format!("/{name}-{round}"));
    for bucket in [&plain, &kept, &paused, &gone] {
        client.put(bucket, "");
    }
    client.ask("PUT", &held, &[("x-amz-bucket-object-lock-enabled", "true")], b"").good();
    settings(client, &plain);
    fill_plain(client, &plain, fill);
    fill_versions(client, (&kept, &paused), keys);
    fill_held(client, &held);
    uploads(client, &kept, large);
    client.put(&format!("{gone}/a"), "a");
    client.delete(&format!("{gone}/a"));
    client.delete(&gone);
}

/// Gives a bucket all settings there are.
pub fn settings(client: &mut Client, bucket: &str) {
    let name = &bucket[1..];
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{name}/open/*"}}]}}"#
    );
    client.put(&format!("{bucket}?policy"), policy);
    for (setting, document) in [
        (
            "cors",
            "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
        ),
        (
            "lifecycle",
            "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>p/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>",
        ),
        (
            "website",
            "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>",
        ),
        ("tagging", "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"),
        (
            "ownershipControls",
            "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>",
        ),
    ] {
        client.put(&format!("{bucket}?{setting}"), document);
    }
    // One that was there and is removed again.
    client.put(
        &format!("{bucket}?publicAccessBlock"),
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>",
    );
    client.delete(&format!("{bucket}?publicAccessBlock"));
}

fn fill_plain(client: &mut Client, bucket: &str, Fill { large, keys }: Fill) {
    let lengths = [0, 1, 300, INLINE_MAX, INLINE_MAX + 1, 70_000, large];
    for (number, length) in lengths.into_iter().enumerate() {
        let headers = [
            ("content-type", "image/x-cairn"),
            ("cache-control", "max-age=5"),
            ("x-amz-meta-number", &*number.to_string()),
            ("x-amz-tagging", "colour=grey&size=some"),
        ];
        let key = format!("{bucket}/open/{number:02}");
        client.ask("PUT", &key, &headers, &content(&key, length)).good();
    }
    for number in 0..keys * 2 {
        let (key, other) = (format!("{bucket}/more/{number:02}"), format!("{bucket}/less/{number:02}"));
        // Small ones become large and large ones small; then a third of them goes.
        let (small, large) = (content(&key, 200 + number), content(&other, 9000 + number));
        client.put(&key, &small);
        client.put(&other, &large);
        if number % 2 == 0 {
            client.put(&key, &large);
            client.put(&other, &small);
        }
        if number % 3 == 0 {
            client.delete(&key);
            client.delete(&other);
        }
    }
    let source = format!("{bucket}/open/05");
    client.ask("PUT", &format!("{bucket}/copy"), &[("x-amz-copy-source", &source)], b"").good();
    client.ask("PUT", &format!("{bucket}/read-by-all"), &[("x-amz-acl", "public-read")], b"all").good();
    let many: String = (keys..keys + 3).map(|number| format!("<Object><Key>more/{number:02}</Key></Object>")).collect();
    client.post(&format!("{bucket}?delete"), format!("<Delete>{many}</Delete>"));
}

fn versioning(client: &mut Client, bucket: &str, state: &str) {
    let document = format!("<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>");
    client.put(&format!("{bucket}?versioning"), document);
}

fn fill_versions(client: &mut Client, (kept, paused): (&str, &str), keys: usize) {
    versioning(client, kept, "Enabled");
    for number in 0..keys {
        let key = format!("{kept}/k{number:02}");
        let versions: Vec<String> =
            (0..4).map(|turn| version_of(&client.put(&key, content(&key, 10 + turn * 3000)))).collect();
        match number % 4 {
            // Deleted, and one of the versions below the marker gone for ever.
            0 => {
                client.delete(&key);
                client.delete(&format!("{key}?versionId={}", versions[1]));
            }
            // A deletion taken back.
            1 => {
                let marker = version_of(&client.delete(&key));
                client.delete(&format!("{key}?versionId={marker}"));
            }
            // The newest erased: the one before it is seen again.
            2 => drop(client.delete(&format!("{key}?versionId={}", versions[3]))),
            _ => {
                let tags = "<Tagging><TagSet><Tag><Key>old</Key><Value>yes</Value></Tag></TagSet></Tagging>";
                client.put(&format!("{key}?tagging&versionId={}", versions[0]), tags);
            }
        }
    }
    // What was there before versions had names, then under versions, then without names again.
    for state in ["", "Enabled", "Suspended"] {
        if !state.is_empty() {
            versioning(client, paused, state);
        }
        for number in 0..4 {
            client.put(&format!("{paused}/k{number}"), format!("{state}{number}"));
        }
    }
    client.delete(&format!("{paused}/k0"));
}

fn fill_held(client: &mut Client, bucket: &str) {
    for mode in ["GOVERNANCE", "COMPLIANCE"] {
        let lock = [("x-amz-object-lock-mode", mode), ("x-amz-object-lock-retain-until-date", UNTIL)];
        client.ask("PUT", &format!("{bucket}/{mode}"), &lock, mode.as_bytes()).good();
        client.put(&format!("{bucket}/{mode}"), "newer");
    }
    let hold = format!("{bucket}/hold");
    client.put(&hold, content(&hold, 20_000));
    client.put(&format!("{hold}?legal-hold"), "<LegalHold><Status>ON</Status></LegalHold>");
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>9</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    client.put(&format!("{bucket}?object-lock"), rule);
    client.put(&format!("{bucket}/by-rule"), "held without a word");
}

fn begin(client: &mut Client, key: &str) -> String {
    let begun = client.ask("POST", &format!("{key}?uploads"), &[("x-amz-meta-of", "parts")], b"").good();
    begun.elements("UploadId").remove(0)
}

fn part(client: &mut Client, key: &str, upload: &str, number: u32, length: usize) -> String {
    let bytes = content(&format!("{key} {number}"), length);
    let put = client.put(&format!("{key}?partNumber={number}&uploadId={upload}"), bytes);
    format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", put.header("etag"))
}

fn uploads(client: &mut Client, bucket: &str, large: usize) {
    let key = format!("{bucket}/whole");
    let upload = begin(client, &key);
    // All but the last must be so long.
    let lengths: &[(u32, usize)] = if large < PART_MIN { &[(1, large)] } else { &[(1, large), (7, 99)] };
    let parts: String = lengths.iter().map(|(number, length)| part(client, &key, &upload, *number, *length)).collect();
    let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.post(&format!("{key}?uploadId={upload}"), list);
    let key = format!("{bucket}/given-up");
    let upload = begin(client, &key);
    part(client, &key, &upload, 1, 70_000);
    client.delete(&format!("{key}?uploadId={upload}"));
    let key = format!("{bucket}/under-way");
    let upload = begin(client, &key);
    for (number, length) in [(1, large), (2, 500), (4, 90_000), (2, 600)] {
        part(client, &key, &upload, number, length);
    }
}

/// All that can be seen, by what was asked for.
pub type Picture = BTreeMap<String, String>;

const OF_BUCKETS: [&str; 16] = [
    "acl",
    "cors",
    "encryption",
    "lifecycle",
    "location",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "tagging",
    "uploads",
    "versioning",
    "versions&max-keys=1000",
    "website",
    "list-type=2&fetch-owner=true&max-keys=1000",
];

/// Looks at everything that there is: buckets and their settings, lists, each version's bytes and headers, parts of uploads.
pub fn picture(client: &mut Client) -> Picture {
    let mut seen = Picture::new();
    let listed = look(client, &mut seen, "/");
    for bucket in elements(&listed, "Name") {
        for of in OF_BUCKETS {
            look(client, &mut seen, &format!("/{bucket}?{of}"));
        }
        let versions = &seen[&format!("/{bucket}?versions&max-keys=1000")];
        assert!(versions.contains("<IsTruncated>false</IsTruncated>"), "{bucket} is seen as a whole");
        let named: Vec<_> = elements(versions, "Key").into_iter().zip(elements(versions, "VersionId")).collect();
        for (key, version) in named {
            let key = format!("/{bucket}/{key}");
            look(client, &mut seen, &key);
            for of in ["", "acl&", "tagging&", "retention&", "legal-hold&"] {
                look(client, &mut seen, &format!("{key}?{of}versionId={version}"));
            }
        }
        let uploads = seen[&format!("/{bucket}?uploads")].clone();
        for (key, upload) in elements(&uploads, "Key").iter().zip(elements(&uploads, "UploadId")) {
            look(client, &mut seen, &format!("/{bucket}/{key}?uploadId={upload}"));
        }
    }
    seen
}

/// Asks for something, and takes note of what is always the same about the answer.
fn look(client: &mut Client, seen: &mut Picture, target: &str) -> String {
    let reply = client.get(target);
    assert!(reply.status < 500, "{target}: {}", reply.text());
    let passing = ["date", "x-amz-request-id", "connection"];
    let headers: String = reply
        .headers
        .iter()
        .filter(|(name, _)| !passing.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    let body = match (reply.status, reply.headers.get("content-type").map(String::as_str)) {
        (400.., _) => reply.elements("Code").concat(),
        (_, Some("application/xml" | "application/json")) => reply.text(),
        _ if reply.body.len() < 64 => reply.text(),
        _ => blake3::hash(&reply.body).to_string(),
    };
    seen.insert(target.to_owned(), format!("{}\n{headers}\n{body}", reply.status));
    body
}

/// Fails unless both are the same, and says where they differ.
#[track_caller]
pub fn same(before: &Picture, after: &Picture, when: &str) {
    let differs = |(target, seen): &(&String, &String)| after.get(*target) != Some(*seen);
    let differ: Vec<String> = before
        .iter()
        .filter(differs)
        .map(|(target, seen)| format!("{target}\nwas {seen}\nis {}", after.get(target).map_or("not there", |it| it)))
        .collect();
    let new: Vec<&String> = after.keys().filter(|target| !before.contains_key(*target)).collect();
    assert!(differ.is_empty() && new.is_empty(), "{when}: {}\nnew: {new:?}", differ.join("\n\n"));
}
