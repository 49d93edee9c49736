//! Who may do what: owners, lists, policies, blocked access, forms.

use crate::client::{Reply, bare, hex, hmac, now, stamp};
use crate::node::{Node, serve};

async fn anybody(node: &Node, method: &str, target: &str) -> Reply {
    bare(node.at, method, target, &[], "").await
}

#[test]
fn nobody_sees_what_is_private_and_everybody_what_is_public() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        ann.put("/bucket/k", "x").await.is(200);
        for target in ["/bucket", "/bucket/k", "/bucket/gone", "/bucket?versions", "/bucket?acl", "/bucket/k?tagging"] {
            bob.get(target).await.fails(403, "AccessDenied");
            anybody(&node, "GET", target).await.fails(403, "AccessDenied");
        }
        bob.put("/bucket/k", "mine").await.fails(403, "AccessDenied");
        bob.delete("/bucket/k").await.fails(403, "AccessDenied");
        bob.delete("/bucket").await.fails(403, "AccessDenied");
        bob.put("/bucket", "").await.fails(409, "BucketAlreadyExists");
        anybody(&node, "GET", "/").await.fails(403, "AccessDenied");
        anybody(&node, "GET", "/nothing").await.fails(404, "NoSuchBucket");
        ann.send("PUT", "/bucket/open", &[("x-amz-acl", "public-read")], "open").await.is(200);
        assert_eq!(anybody(&node, "GET", "/bucket/open").await.is(200).text(), "open");
        anybody(&node, "PUT", "/bucket/open").await.fails(403, "AccessDenied");
        ann.send("PUT", "/bucket/users", &[("x-amz-acl", "authenticated-read")], "users").await.is(200);
        anybody(&node, "GET", "/bucket/users").await.fails(403, "AccessDenied");
        bob.get("/bucket/users").await.is(200);
        ann.send("PUT", "/bucket?acl", &[("x-amz-acl", "public-read-write")], "").await.is(200);
        anybody(&node, "GET", "/bucket").await.is(200);
        anybody(&node, "GET", "/bucket/gone").await.fails(404, "NoSuchKey");
        bare(node.at, "PUT", "/bucket/from-anybody", &[], "x").await.is(200);
        assert_eq!(ann.get("/bucket/from-anybody").await.is(200).text(), "x");
        ann.put("/bucket?publicAccessBlock", "<PublicAccessBlockConfiguration><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>").await.is(200);
        anybody(&node, "GET", "/bucket/open").await.fails(403, "AccessDenied");
        ann.send("PUT", "/bucket/more", &[("x-amz-acl", "public-read")], "").await.fails(403, "AccessDenied");
        ann.delete("/bucket?publicAccessBlock").await.is(204);
        anybody(&node, "GET", "/bucket/open").await.is(200);
        ann.send("PUT", "/bucket?acl", &[("x-amz-acl", "strange")], "").await.fails(400, "InvalidArgument");
    });
}

#[test]
fn lists_are_put_and_read_back_as_xml() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        ann.put("/bucket/k", "x").await.is(200);
        let grant = |id: &str, permission: &str| {
            format!(
                "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>{id}</ID></Grantee><Permission>{permission}</Permission></Grant>"
            )
        };
        let list = |owner: &str, grants: String| {
            format!(
                "<AccessControlPolicy><Owner><ID>{owner}</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
            )
        };
        ann.put("/bucket/k?acl", list("ann", grant("ann", "FULL_CONTROL") + &grant("bob", "READ"))).await.is(200);
        bob.get("/bucket/k").await.is(200);
        bob.get("/bucket/k?acl").await.fails(403, "AccessDenied");
        assert_eq!(ann.get("/bucket/k?acl").await.is(200).elements("Permission"), ["FULL_CONTROL", "READ"]);
        ann.put("/bucket/k?acl", list("bob", grant("ann", "FULL_CONTROL"))).await.fails(403, "AccessDenied");
        ann.put("/bucket/k?acl", list("ann", grant("eve", "READ"))).await.fails(400, "InvalidArgument");
        ann.put("/bucket/k?acl", list("ann", grant("bob", "FLY"))).await.fails(400, "MalformedACLError");
        ann.put("/bucket/k?acl", "<AccessControlPolicy/>").await.fails(400, "MalformedACLError");
        ann.send(
            "PUT",
            "/bucket/g",
            &[("x-amz-grant-read", "id=bob"), ("x-amz-grant-full-control", "id=\"ann\"")],
            "x",
        )
        .await
        .is(200);
        bob.get("/bucket/g").await.is(200);
        ann.put("/bucket?ownershipControls", "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>").await.is(200);
        bob.get("/bucket/k").await.fails(403, "AccessDenied");
        ann.send("PUT", "/bucket/n", &[("x-amz-acl", "public-read")], "x")
            .await
            .fails(400, "AccessControlListNotSupported");
    });
}

#[test]
fn policies_allow_and_deny() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        ann.put("/bucket/open/k", "x").await.is(200);
        ann.put("/bucket/shut/k", "x").await.is(200);
        let put = |statements: String| {
            let ann = ann.clone();
            async move {
                ann.put("/bucket?policy", format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}")).await
            }
        };
        let allow = r#"{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bucket/open/*"}"#;
        let deny =
            r#"{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"s3:Get*","Resource":"arn:aws:s3:::bucket/shut/*"}"#;
        let list = r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/bob"},"Action":"s3:ListBucket","Resource":"arn:aws:s3:::bucket","Condition":{"StringLike":{"s3:prefix":"open/*"}}}"#;
        put([allow, deny, list].join(",")).await.is(204);
        anybody(&node, "GET", "/bucket/open/k").await.is(200);
        bare(node.at, "PUT", "/bucket/open/new", &[], "y").await.is(200);
        anybody(&node, "DELETE", "/bucket/open/k").await.fails(403, "AccessDenied");
        anybody(&node, "GET", "/bucket/shut/k").await.fails(403, "AccessDenied");
        ann.get("/bucket/shut/k").await.fails(403, "AccessDenied");
        bob.get("/bucket?prefix=open%2Fa").await.is(200);
        bob.get("/bucket?prefix=shut%2F").await.fails(403, "AccessDenied");
        bob.get("/bucket").await.fails(403, "AccessDenied");
        assert_eq!(ann.get("/bucket?policyStatus").await.is(200).element("IsPublic").as_deref(), Some("true"));
        assert!(ann.get("/bucket?policy").await.is(200).text().contains("s3:Get*"));
        put(allow.replace("\"*\",", "\"*\",\"Condition\":{\"StringEquals\":{\"s3:moon\":\"full\"}},"))
            .await
            .fails(400, "MalformedPolicy");
        put(allow.replace("bucket/open", "other/open")).await.fails(400, "MalformedPolicy");
        put(String::new()).await.fails(400, "MalformedPolicy");
        ann.put("/bucket?policy", "no json").await.fails(400, "MalformedPolicy");
        bob.delete("/bucket?policy").await.fails(403, "AccessDenied");
        put(r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}"#.to_owned()).await.is(204);
        ann.get("/bucket").await.fails(403, "AccessDenied");
        ann.delete("/bucket?policy").await.is(204);
        ann.get("/bucket?policy").await.fails(404, "NoSuchBucketPolicy");
        anybody(&node, "GET", "/bucket/open/k").await.fails(403, "AccessDenied");
    });
}

#[test]
fn policies_ask_for_tags_of_what_is_there() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        ann.bucket("copies").await;
        for (key, tags) in [("open", "who=all&a=b"), ("shut", "who=ann"), ("plain", "")] {
            ann.send("PUT", &format!("/bucket/{key}"), &[("x-amz-tagging", tags)], "x").await.is(200);
        }
        let policy = |effect: &str, actions: &str, test: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Principal":"*","Action":["s3:ListBucket","s3:PutObjectTagging","s3:GetObject"],"Resource":"*"}},{{"Effect":"{effect}","Principal":"*","Action":"{actions}","Resource":"*","Condition":{{"{test}":{{"s3:ExistingObjectTag/who":"all"}}}}}}]}}"#
            )
        };
        ann.put("/bucket?policy", policy("Deny", "s3:*Object*", "StringNotEquals")).await.is(204);
        let copied = |key: &'static str| {
            let bob = bob.clone();
            async move { bob.send("PUT", "/bobs/k", &[("x-amz-copy-source", key)], "").await }
        };
        bob.bucket("bobs").await;
        bob.get("/bucket/open").await.is(200);
        copied("/bucket/open").await.is(200);
        for key in ["shut", "plain", "gone"] {
            bob.get(&format!("/bucket/{key}")).await.fails(403, "AccessDenied");
        }
        copied("/bucket/shut").await.fails(403, "AccessDenied");
        let tags =
            |who: &str| format!("<Tagging><TagSet><Tag><Key>who</Key><Value>{who}</Value></Tag></TagSet></Tagging>");
        bob.put("/bucket/shut?tagging", tags("all")).await.fails(403, "AccessDenied");
        bob.put("/bucket/open?tagging", tags("bob")).await.is(200);
        bob.put("/bucket/open?tagging", tags("all")).await.fails(403, "AccessDenied");
        bob.get("/bucket/open").await.fails(403, "AccessDenied");
    });
}

#[test]
fn who_may_list_some_prefix_is_told_what_is_missing_there() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        let policy = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::bucket","Condition":{"StringLike":{"s3:prefix":"open/*"}}}]}"#;
        ann.put("/bucket?policy", policy).await.is(204);
        bob.get("/bucket/open/gone").await.fails(404, "NoSuchKey");
        bob.get("/bucket/shut/gone").await.fails(403, "AccessDenied");
        bob.get("/bucket/shut/gone?prefix=open%2F").await.fails(403, "AccessDenied");
    });
}

#[test]
fn objects_are_whose_the_bucket_says() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        let rule = |ownership: &str| {
            format!(
                "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
            )
        };
        ann.send("PUT", "/bucket", &[("x-amz-acl", "public-read-write")], "").await.is(200);
        ann.put("/bucket?ownershipControls", rule("BucketOwnerEnforced"))
            .await
            .fails(400, "InvalidBucketAclWithObjectOwnership");
        let began = |acl: &'static str| {
            let bob = bob.clone();
            async move {
                let headers: &[(&str, &str)] = if acl.is_empty() { &[] } else { &[("x-amz-acl", acl)] };
                let begun = bob.send("POST", "/bucket/k?uploads", headers, "").await.is(200);
                let id = begun.element("UploadId").expect("an id");
                let parts = bob.get(&format!("/bucket/k?uploadId={id}")).await.is(200);
                let [initiator, owner] = &parts.elements("ID")[..] else { panic!("{}", parts.text()) };
                format!("{initiator} for {owner}")
            }
        };
        assert_eq!(began("").await, "bob for bob");
        ann.put("/bucket?ownershipControls", rule("BucketOwnerPreferred")).await.is(200);
        assert_eq!(began("private").await, "bob for bob");
        assert_eq!(began("bucket-owner-full-control").await, "bob for ann");
        ann.send("PUT", "/bucket?acl", &[("x-amz-acl", "private")], "").await.is(200);
        ann.put("/bucket?ownershipControls", rule("BucketOwnerEnforced")).await.is(200);
        let policy = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}]}"#;
        ann.put("/bucket?policy", policy).await.is(204);
        assert_eq!(began("").await, "bob for ann");
        for target in ["/bucket?acl", "/bucket/k?acl"] {
            ann.put("/bucket/k", "x").await.is(200);
            ann.send("PUT", target, &[("x-amz-acl", "private")], "").await.fails(400, "AccessControlListNotSupported");
            ann.send("PUT", target, &[("x-amz-acl", "bucket-owner-full-control")], "").await.is(200);
        }
        ann.send("PUT", "/other", &[("x-amz-grant-read", "emailAddress=bob@example.com")], "")
            .await
            .fails(400, "UnresolvableGrantByEmailAddress");
    });
}

/// A form's body.
fn form(fields: &[(&str, &str)], file: &str) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields: String = fields.iter().map(field).collect();
    format!(
        "{fields}--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\n{file}\r\n--XyZ--\r\n"
    )
}

#[test]
fn forms_store_what_their_policy_allows() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let stamp = stamp(now());
        let credential = format!("KEY-ann/{}/us-east-1/s3/aws4_request", &stamp[..8]);
        let post = |expires: &'static str,
                    key: &'static str,
                    extra: Vec<(&'static str, &'static str)>,
                    file: &'static str| {
            let policy = format!(
                r#"{{"expiration":"{expires}","conditions":[{{"bucket":"bucket"}},["starts-with","$key","up/"],{{"success_action_status":"201"}},["content-length-range",1,10],{{"x-amz-credential":"{credential}"}},{{"x-amz-date":"{stamp}"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}}]}}"#
            );
            let policy = base64_simd::STANDARD.encode_to_string(policy);
            let signature = hex(hmac(&ann.key(&stamp[..8]), &policy));
            let mut fields = vec![
                ("key", key),
                ("success_action_status", "201"),
                ("x-amz-credential", credential.as_str()),
                ("x-amz-date", stamp.as_str()),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("policy", policy.as_str()),
                ("x-amz-signature", signature.as_str()),
            ];
            fields.extend(extra);
            let body = form(&fields, file);
            async move {
                bare(node.at, "POST", "/bucket", &[("content-type", "multipart/form-data; boundary=XyZ")], body).await
            }
        };
        let done = post("2100-01-01T00:00:00Z", "up/${filename}", vec![], "by form").await.is(201);
        assert_eq!(done.element("Key").as_deref(), Some("up/f.txt"));
        let got = ann.get("/bucket/up/f.txt").await.is(200);
        assert_eq!((got.text().as_str(), got.header("content-type")), ("by form", Some("text/plain")));
        post("2020-01-01T00:00:00Z", "up/a", vec![], "x").await.fails(403, "AccessDenied");
        post("2100-01-01T00:00:00Z", "down/a", vec![], "x").await.fails(403, "AccessDenied");
        post("2100-01-01T00:00:00Z", "up/a", vec![("acl", "public-read")], "x").await.fails(403, "AccessDenied");
        post("2100-01-01T00:00:00Z", "up/a", vec![], "longer than ten").await.fails(400, "EntityTooLarge");
        post("2100-01-01T00:00:00Z", "up/a", vec![], "").await.fails(400, "EntityTooSmall");
        let bare_form = |body: String| async move {
            bare(node.at, "POST", "/bucket", &[("content-type", "multipart/form-data; boundary=XyZ")], body).await
        };
        bare_form(form(&[("key", "up/a")], "x")).await.fails(403, "AccessDenied");
        bare_form("--XyZ--".to_owned()).await.fails(400, "MalformedPOSTRequest");
        let cut = form(&[("key", "up/a")], "x");
        bare_form(cut[..cut.len() - 12].to_owned()).await.fails(403, "AccessDenied");
        ann.get("/bucket/up/a").await.fails(404, "NoSuchKey");
    });
}
