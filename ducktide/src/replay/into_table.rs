//! `--into`: a second table for the same topic, with its own progress.

use ducktide_consumer::{ClusterView, table_group};
use ducktide_kafka::property;
use ducktide_lake::DuckLake;
use ducktide_lake::config::LakeConfig;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;
use ducktide_protocol::{Lake as _, SourceSpec};

use super::{ReplayArgs, start_offsets, topic_offsets};
use crate::failure::Failure;

/// Registers the topic for the table, and returns the command that fills it.
pub(super) fn register(
    args: &ReplayArgs,
    table: &TableName,
    config: &LakeConfig,
    lake: &mut DuckLake,
    view: &ClusterView,
) -> Result<String, Failure> {
    let is_taken = |source: &ducktide_protocol::Source| {
        source.spec.topic == args.topic && source.spec.table == *table
    };
    if lake.sources()?.iter().any(is_taken) {
        return Err(Failure::Refused(format!(
            "the topic already fills that table; replay it without --into: \
             topic=`{}` table=`{table}`",
            args.topic
        )));
    }
    let partitions = topic_offsets::read(view, lake, &args.topic, None, args.from_timestamp)?;
    let offsets = start_offsets::for_new_table(&partitions, args.start_point())?;
    let starts: Vec<(Partition, Offset)> = offsets.into_iter().collect();
    let group = table_group(&lake.default_group()?, table);
    if !args.dry_run {
        let identity = view.identity(&args.topic)?;
        let spec = SourceSpec {
            table: table.clone(),
            topic: args.topic.clone(),
            pipeline: table.table.clone(),
            cluster_id: identity.cluster_id,
            topic_id: identity.topic_id,
        };
        let source = lake.register_source(&spec, &starts)?;
        lake.record_group(source.id, &group)?;
    }
    Ok(report(args, table, &group, config, &starts))
}

fn report(
    args: &ReplayArgs,
    table: &TableName,
    group: &str,
    config: &LakeConfig,
    starts: &[(Partition, Offset)],
) -> String {
    let topic = &args.topic;
    let line = |(partition, offset): &(Partition, Offset)| {
        format!("{topic}[{partition}]  from offset {offset}\n")
    };
    let starts: String = starts.iter().map(line).collect();
    let verb = if args.dry_run { "would be" } else { "is" };
    let secrets = secrets(args, config);
    let command = command(args, table, group, config);
    format!("{starts}{topic} {verb} registered for {table}; fill it with\n{secrets}  {command}\n")
}

/// Returns the shell command of the consumer that fills the table, with the settings of this program.
fn command(args: &ReplayArgs, table: &TableName, group: &str, config: &LakeConfig) -> String {
    let mut words = vec!["ducktide-consumer".to_owned()];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), shell_word(value)]);
    option("--topics", &args.topic);
    option("--table", &table.to_string());
    option("--group-id", group);
    option("--bootstrap-servers", &args.kafka.bootstrap_servers);
    for (name, value) in args.kafka.security.public_options() {
        option(name, &value);
    }
    for (name, value) in properties(args).iter().filter(|(name, _)| !is_secret(name)) {
        option("--kafka-property", &format!("{name}={}", property::escape(value)));
    }
    option("--catalog", &config.catalog.shareable());
    if config.metadata_schema != "public" {
        option("--metadata-schema", &config.metadata_schema);
    }
    if let Some(directory) = &config.extension_dir {
        option("--extension-dir", &directory.to_string_lossy());
    }
    words.join(" ")
}

/// Returns comments about secrets that the command leaves out.
fn secrets(args: &ReplayArgs, config: &LakeConfig) -> String {
    let mut text = String::new();
    if config.catalog.has_password() {
        text.push_str(
            "  # the password of the catalog is left out: set PGPASSWORD, or add it to ~/.pgpass\n",
        );
    }
    if args.kafka.security.has_secrets() {
        text.push_str(
            "  # secrets of Kafka are left out: set KAFKA_SASL_PASSWORD, KAFKA_SSL_KEY_PASSWORD\n",
        );
    }
    if properties(args).iter().any(|(name, _)| is_secret(name)) {
        text.push_str("  # secrets of Kafka are left out: set them in KAFKA_PROPERTIES\n");
    }
    text
}

fn properties(args: &ReplayArgs) -> Vec<(String, String)> {
    property::merge(&args.kafka.kafka_properties).expect("the client was created from them")
}

/// Returns true for a property of Kafka's client that must not be printed.
fn is_secret(property: &str) -> bool {
    let words = ["password", "secret", "pem", "token", "oauthbearer.config", "jaas"];
    words.iter().any(|word| property.contains(word))
}

/// Quotes a word of a shell command, if necessary.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ducktide_lake::config::CatalogLocation;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: ReplayArgs,
    }

    #[test]
    fn the_printed_command_has_all_settings_and_no_secrets() {
        let catalog = "host=db user=me password=s3cret dbname='o lake' sslmode=require";
        let given = [
            "replay",
            "--topic",
            "shop'events",
            "--from-beginning",
            "--into",
            "raw.other",
            "--catalog",
            catalog,
            "--metadata-schema",
            "lake_2",
            "--bootstrap-servers",
            "a:1,b:2",
            "--kafka-security-protocol",
            "sasl_ssl",
            "--kafka-sasl-password",
            "s3cret",
            "--kafka-property",
            "client.id=a b",
            "--kafka-property",
            "ssl.keystore.password=s3cret",
        ];
        let args = Program::parse_from(given).args;
        let config = args.lake.resolve().unwrap();

        let text = report(&args, args.into.as_ref().unwrap(), "ducktide-1-raw.other", &config, &[]);

        let command = r"ducktide-consumer --topics 'shop'\''events' --table raw.other --group-id ducktide-1-raw.other --bootstrap-servers a:1,b:2 --kafka-security-protocol sasl_ssl --kafka-property 'client.id=a b' --catalog 'postgres://me@db/o%20lake?sslmode=require' --metadata-schema lake_2";
        assert!(text.contains(command), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("PGPASSWORD") && text.contains("KAFKA_PROPERTIES"), "{text}");
        assert!(text.contains("KAFKA_SASL_PASSWORD"), "{text}");
        let again: CatalogLocation = "postgres://me@db/o%20lake?sslmode=require".parse().unwrap();
        assert_eq!(again.shareable(), config.catalog.shareable());
    }
}
