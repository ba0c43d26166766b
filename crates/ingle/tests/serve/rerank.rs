//! `POST /v1/rerank`

use super::Server;
use serde_json::{Value, json};

fn server() -> Server {
    Server::start(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../ingle-cpu/tests/fixtures/qwen3_embedding")])
}

fn indices(results: &Value, score: &str) -> Vec<u64> {
    let results = results.as_array().unwrap();
    let scores: Vec<f64> = results.iter().map(|result| result[score].as_f64().unwrap()).collect();
    assert!(scores.windows(2).all(|two| two[0] >= two[1]), "{scores:?}");
    assert!(scores.iter().all(|score| (-1.0001..=1.0001).contains(score)), "{scores:?}");
    results.iter().map(|result| result["index"].as_u64().unwrap()).collect()
}

#[test]
fn documents_come_in_the_order_of_their_scores_with_their_places() {
    let server = server();
    let body = json!({"query": "the same", "documents": ["b", "the same", {"text": "c"}]});
    let answer = server.post("/v1/rerank", &body).good();
    let mut all = indices(&answer["results"], "relevance_score");
    // the model's own vectors decide which is first: what is looked at here is that each has its place
    let mut again = indices(&server.post("/rerank", &body).good()["results"], "relevance_score");
    assert_eq!(all, again);
    all.sort_unstable();
    again.dedup();
    assert_eq!((all, again.len()), (vec![0, 1, 2], 3));
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!((&answer["object"], answer["results"][0].get("document")), (&"list".into(), None));
}

#[test]
fn equal_documents_score_alike_and_a_query_is_most_like_itself() {
    let server = server();
    let body = json!({"query": "q", "texts": ["a", "b", "a"], "return_text": true});
    let answer = server.post("/v1/rerank", &body).good();
    indices(&answer, "score");
    let of = |index: u64| {
        let results = answer.as_array().unwrap();
        results.iter().find(|result| result["index"] == index).unwrap()["score"].clone()
    };
    assert_eq!(of(0), of(2));
    assert!(answer.as_array().unwrap().iter().all(|result| result["text"].is_string()));
}

#[test]
fn as_many_as_asked_for_are_named() {
    let server = server();
    let body = json!({"query": "q", "documents": ["a", "b", "c"], "top_n": 2, "return_documents": true});
    let answer = server.post("/v1/rerank", &body).good();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        let index = result["index"].as_u64().unwrap() as usize;
        assert_eq!(result["document"]["text"], ["a", "b", "c"][index]);
    }
}

#[test]
fn bodies_that_make_no_sense_are_refused() {
    let server = server();
    for (body, blamed) in [
        (json!({"documents": ["a"]}), "query"),
        (json!({"query": 1, "documents": ["a"]}), "query"),
        (json!({"query": "q"}), "documents"),
        (json!({"query": "q", "documents": []}), "documents"),
        (json!({"query": "q", "documents": "a"}), "documents"),
        (json!({"query": "q", "documents": [1]}), "documents"),
        (json!({"query": "q", "documents": [{"txet": "a"}]}), "documents"),
        (json!({"query": "q", "documents": ["a"], "texts": ["a"]}), "texts"),
        (json!({"query": "q", "documents": ["a"], "top_n": 0}), "top_n"),
        (json!({"query": "q", "documents": ["a"], "other": 0}), "other"),
    ] {
        assert_eq!(server.post("/v1/rerank", &body).error(400)["param"], blamed, "{body}");
    }
    let chat = Server::ember().post("/v1/rerank", &json!({"query": "q", "documents": ["a"]})).error(400);
    assert!(chat["message"].as_str().unwrap().contains("embeddings"), "{chat}");
}
