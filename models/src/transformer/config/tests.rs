use super::*;

fn refused(json: &str) -> Error {
    TransformerConfig::from_json_str(json).expect_err(json)
}

#[test]
fn an_empty_file_is_the_base_model() {
    let config = TransformerConfig::from_json_str("{}").unwrap();
    assert_eq!((config.d_model, config.encoder_layers, config.encoder_ffn_dim), (512, 6, 2048));
    assert_eq!((config.dropout, config.attention_dropout), (0.1, 0.0));
    assert_eq!(config.activation_function, HiddenAct::Relu);
    assert!(!config.normalize_before && config.tie_word_embeddings);
}

/// As `transformers` writes it for a Marian model, shortened.
#[test]
fn a_marian_model_is_understood() {
    let config = TransformerConfig::from_json_str(
        r#"{"model_type": "marian", "architectures": ["MarianMTModel"], "vocab_size": 58101,
            "decoder_vocab_size": 58101, "d_model": 512, "activation_function": "relu",
            "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 58100,
            "decoder_start_token_id": 58100, "normalize_before": false,
            "static_position_embeddings": true, "num_beams": 6, "bad_words_ids": [[58100]]}"#,
    )
    .unwrap();
    assert_eq!(config.position_layout, SinusoidLayout::Halves);
    assert_eq!((config.decoder_start_token_id, config.bos_token_id), (58100, Some(0)));
    assert_eq!(config.extra["bad_words_ids"].get(), "[[58100]]");
    let marian = r#"{"model_type": "marian", "position_layout": "tensor2tensor"}"#;
    let config = TransformerConfig::from_json_str(marian).unwrap();
    assert_eq!(config.position_layout, SinusoidLayout::Tensor2Tensor);
}

#[test]
fn what_is_written_is_read_again() {
    for layout in
        [SinusoidLayout::Interleaved, SinusoidLayout::Halves, SinusoidLayout::Tensor2Tensor]
    {
        let config = TransformerConfig {
            decoder_vocab_size: Some(9),
            share_encoder_decoder_embeddings: false,
            position_layout: layout,
            bos_token_id: Some(4),
            ..TransformerConfig::tiny(11).pre_norm()
        };
        let written = serde_json::to_string(&config).unwrap();
        let again = TransformerConfig::from_json_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
        assert!(again.normalize_before && again.add_final_layer_norm);
        assert_eq!((again.position_layout, again.target_vocab_size()), (layout, 9));
        let keys: BTreeMap<String, IgnoredAny> = serde_json::from_str(&written).unwrap();
        let mut fields = FIELDS;
        fields.sort();
        assert_eq!(keys.into_keys().collect::<Vec<_>>(), fields);
    }
}

#[test]
fn presets_are_valid() {
    let path = Path::new("config.json");
    for config in [
        TransformerConfig::base(100),
        TransformerConfig::big(100),
        TransformerConfig::small(100),
        TransformerConfig::tiny(100),
    ] {
        config.check(path).unwrap();
        config.pre_norm().check(path).unwrap();
    }
}

#[test]
fn another_family_is_refused_by_its_name() {
    for family in ["bert", "bart", "t5", ""] {
        let error = refused(&format!(r#"{{"model_type": "{family}", "d_model": "x"}}"#));
        let Error::WrongModelType { found, .. } = error else { panic!("{error}") };
        assert_eq!(found, family);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    for (name, value) in [
        ("activation_function", r#""swish""#),
        ("static_position_embeddings", "false"),
        ("normalize_embedding", "true"),
    ] {
        let error = refused(&format!(r#"{{"{name}": {value}}}"#));
        let Error::Unsupported { field, found, .. } = error else { panic!("{error}") };
        assert_eq!((field, &*found), (name, value.trim_matches('"')));
    }
}

#[test]
fn sizes_that_no_model_has_are_refused() {
    for (name, value) in [
        ("d_model", "0"),
        ("d_model", "100"),
        ("d_model", "18446744073709551615"),
        ("encoder_attention_heads", "3"),
        ("decoder_attention_heads", "7"),
        ("encoder_layers", "1000000000000"),
        ("max_position_embeddings", "1048577"),
        ("max_position_embeddings", "65537"),
        ("vocab_size", "9223372036854775807"),
        ("decoder_vocab_size", "36999"),
        ("eos_token_id", "37000"),
        ("decoder_start_token_id", "4000000000"),
        ("layer_norm_eps", "-1"),
        ("dropout", "1"),
        ("attention_dropout", "-0.1"),
        ("activation_dropout", "1.5"),
    ] {
        let error = refused(&format!(r#"{{"{name}": {value}}}"#));
        assert!(matches!(error, Error::InvalidValue { .. }), "{name} {value}: {error}");
    }
}

#[test]
fn what_is_not_json_of_this_form_is_named() {
    for json in ["", "[]", "{", r#"{"d_model": -1}"#, r#"{"position_layout": "learned"}"#, "{} {}"]
    {
        let error = refused(json);
        assert!(matches!(error, Error::Json { .. }), "{error}");
        assert!(error.to_string().starts_with("config.json: "), "{error}");
    }
}
