//! Object lock: what is held can't be erased, by any way.

use crate::client::{now, stamp};
use crate::node::serve;

fn iso(millis: u64) -> String {
    let text = stamp(millis);
    format!("{}-{}-{}T{}:{}:{}Z", &text[..4], &text[4..6], &text[6..8], &text[9..11], &text[11..13], &text[13..15])
}

#[test]
fn held_versions_stay() {
    serve(|node| async move {
        let ann = node.ann();
        ann.send("PUT", "/bucket", &[("x-amz-bucket-object-lock-enabled", "true")], "").await.is(200);
        let until = iso(now() + 3_600_000);
        let put = |mode: &'static str| {
            let (ann, until) = (ann.clone(), until.clone());
            async move {
                let lock = [("x-amz-object-lock-mode", mode), ("x-amz-object-lock-retain-until-date", until.as_str())];
                let put = ann.send("PUT", "/bucket/k", &lock, "x").await.is(200);
                format!("/bucket/k?versionId={}", put.header("x-amz-version-id").expect("a version"))
            }
        };
        let (soft, hard) = (put("GOVERNANCE").await, put("COMPLIANCE").await);
        assert_eq!(ann.get(&hard).await.is(200).header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
        let bypass = [("x-amz-bypass-governance-retention", "true")];
        ann.delete(&soft).await.fails(403, "AccessDenied");
        ann.send("DELETE", &hard, &bypass, "").await.fails(403, "AccessDenied");
        let many = format!(
            "<Delete><Object><Key>k</Key><VersionId>{}</VersionId></Object></Delete>",
            hard.split('=').next_back().expect("an id")
        );
        assert_eq!(ann.send("POST", "/bucket?delete", &[], many).await.is(200).elements("Code"), ["AccessDenied"]);
        let retention = |mode: &str, until: &str| {
            format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>")
        };
        let (sooner, later) = (iso(now() + 60_000), iso(now() + 7_200_000));
        let of = |target: &str| target.replace("?versionId", "?retention&versionId");
        ann.put(&of(&hard), retention("COMPLIANCE", &sooner)).await.fails(403, "AccessDenied");
        ann.put(&of(&hard), retention("COMPLIANCE", &later)).await.is(200);
        ann.put(&of(&soft), retention("GOVERNANCE", &sooner)).await.fails(403, "AccessDenied");
        ann.send("PUT", &of(&soft), &bypass, retention("GOVERNANCE", &sooner)).await.is(200);
        ann.put(&of(&soft), retention("COMPLIANCE", &later)).await.fails(403, "AccessDenied");
        ann.put(&of(&soft), retention("GOVERNANCE", "2001-01-01T00:00:00Z")).await.fails(400, "InvalidArgument");
        ann.put(&of(&soft), retention("SOFT", &later)).await.fails(400, "MalformedXML");
        assert_eq!(ann.get(&of(&hard)).await.is(200).element("Mode").as_deref(), Some("COMPLIANCE"));
        let hold = soft.replace("?versionId", "?legal-hold&versionId");
        ann.put(&hold, "<LegalHold><Status>ON</Status></LegalHold>").await.is(200);
        ann.send("DELETE", &soft, &bypass, "").await.fails(403, "AccessDenied");
        ann.put(&hold, "<LegalHold><Status>OFF</Status></LegalHold>").await.is(200);
        ann.send("DELETE", &soft, &bypass, "").await.is(204);
        ann.delete("/bucket").await.fails(409, "BucketNotEmpty");
        assert_eq!(
            ann.delete("/bucket/k").await.is(204).header("x-amz-delete-marker"),
            Some("true"),
            "a marker may be put on it"
        );
    });
}

#[test]
fn who_may_not_lock_may_not_store_what_is_locked() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.send("PUT", "/bucket", &[("x-amz-bucket-object-lock-enabled", "true")], "").await.is(200);
        let policy = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*"}]}"#;
        ann.put("/bucket?policy", policy).await.is(204);
        bob.put("/bucket/k", "x").await.is(200);
        let until = iso(now() + 3_600_000);
        let kept = [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", until.as_str())];
        bob.send("PUT", "/bucket/k", &kept, "x").await.fails(403, "AccessDenied");
        bob.send("PUT", "/bucket/k", &[("x-amz-object-lock-legal-hold", "ON")], "x").await.fails(403, "AccessDenied");
        bob.send("PUT", "/bucket/k", &[("x-amz-object-lock-legal-hold", "OFF")], "x").await.is(200);
    });
}

#[test]
fn buckets_lock_what_comes_without_a_lock() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("plain").await;
        ann.get("/plain?object-lock").await.fails(404, "ObjectLockConfigurationNotFoundError");
        ann.send("PUT", "/plain/k", &[("x-amz-object-lock-legal-hold", "ON")], "x").await.fails(400, "InvalidRequest");
        ann.send("PUT", "/bucket", &[("x-amz-bucket-object-lock-enabled", "true")], "").await.is(200);
        let rule = |rule: &str| {
            format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{rule}</DefaultRetention></Rule></ObjectLockConfiguration>"
            )
        };
        ann.put("/bucket?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>1</Days>")).await.is(200);
        assert_eq!(ann.get("/bucket?object-lock").await.is(200).element("Days").as_deref(), Some("1"));
        let put = ann.put("/bucket/k", "x").await.is(200);
        let version = put.header("x-amz-version-id").expect("a version");
        ann.delete(&format!("/bucket/k?versionId={version}")).await.fails(403, "AccessDenied");
        ann.put("/bucket?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"))
            .await
            .fails(400, "MalformedXML");
        ann.put("/bucket?object-lock", rule("<Mode>GOVERNANCE</Mode><Days>0</Days>"))
            .await
            .fails(400, "InvalidRetentionPeriod");
        ann.put("/bucket?versioning", "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>")
            .await
            .fails(409, "InvalidBucketState");
    });
}
