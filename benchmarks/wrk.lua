-- wrk's own numbers, exact and for a program to read. Only `done`: a `request` or `response` function would run for each
-- request and make the load generator the thing that is measured.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "bytes": %d, "microseconds": %d, '
            .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, "p50": %d, "p99": %d}\n',
        summary.requests, summary.bytes, summary.duration,
        errors.connect, errors.read, errors.write, errors.status, errors.timeout,
        latency:percentile(50), latency:percentile(99)
    ))
end
