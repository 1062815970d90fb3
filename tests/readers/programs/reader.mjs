// A reader by @platformatic/kafka, and by @kafkajs/confluent-schema-registry for Avro: one JSON line a record,
// until it is ended.
//
//   node reader.mjs BOOTSTRAP TOPIC ISOLATION FORMAT SCHEMA_REGISTRY    ISOLATION "" leaves what the client does itself
import { writeSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { Consumer, FetchIsolationLevels } from '@platformatic/kafka'
import registryPackage from '@kafkajs/confluent-schema-registry'

// The client expects Node 22; Node 20 lacks this one function.
Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }))
  return parts
}

const [bootstrap, topic, isolation, format, schemaRegistry] = process.argv.slice(2)
const registry = schemaRegistry ? new registryPackage.SchemaRegistry({ host: schemaRegistry }) : undefined
const consumer = new Consumer({
  groupId: `reader-${randomUUID()}`,
  clientId: 'reader',
  bootstrapBrokers: bootstrap.split(','),
  ...(isolation ? { isolationLevel: FetchIsolationLevels[isolation.toUpperCase()] } : {})
})
const records = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
for await (const record of records) {
  const path = record.key.toString().split('#').slice(1).join('#')
  const digest = [...record.headers].find(([name]) => name.toString() === 'oci.artifact_digest')[1].toString()
  const content = (await contentOf(record.value))?.toString('base64') ?? null
  writeSync(1, JSON.stringify({ offset: Number(record.offset), path, content, digest }) + '\n')
}

async function contentOf (value) {
  if (value === null || value === undefined) return null // a tombstone; an empty file in format raw is an empty buffer
  if (format === 'raw') return value
  const document = format === 'avro' ? await registry.decode(value) : JSON.parse(value.toString())
  return Buffer.from(document.content)
}
