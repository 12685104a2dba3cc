-- SPDX-License-Identifier: MIT
-- wrk: deliveries like the provider's sample, each another one.
--
--	wrk ... -s post.lua URL -- payload.json random      every id random: the worst for every index
--	wrk ... -s post.lua URL -- payload.json ascending   numbers as the provider makes them, by time
--	wrk ... -s post.lua URL -- payload.json known N     repeats of the N that growth.py has loaded
--
-- The last line of output is for bench.py, and the same as pace.c's.

local ffi = require "ffi"
local random, format = math.random, string.format

local pieces = {} -- the request around its three ids
local mode, known, counter

local threads = 0
function setup(thread)
	threads = threads + 1
	thread:set("id", threads)
end

function init(args)
	local file = assert(io.open(args[1], "rb"))
	local body = file:read("*a")
	file:close()
	mode, known = args[2], tonumber(args[3])

	file = assert(io.open("/dev/urandom", "rb"))
	local b = { file:read(6):byte(1, 6) }
	file:close()
	math.randomseed(((((b[1] * 256 + b[2]) * 256 + b[3]) * 256 + b[4]) * 256 + b[5]) * 256 + b[6])
	counter = os.time() * 0x100000 + id -- uniqid(): hexadecimal seconds and microseconds

	local length = #body:gsub("@NO@", ("x"):rep(13)):gsub("@REFERENCE@", ("x"):rep(36)):gsub("@ORDER@", ("x"):rep(16))
	local rest = format("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		wrk.path, wrk.headers["Host"], length, body)
	for i, mark in ipairs { "@NO@", "@REFERENCE@", "@ORDER@" } do
		local from, to = rest:find(mark, 1, true)
		pieces[i] = rest:sub(1, from - 1)
		rest = rest:sub(to + 1)
	end
	pieces[4] = rest
end

function request()
	local a = random(0, 0xffff) * 0x10000 + random(0, 0xffff)
	local b = random(0, 0xffff) * 0x10000 + random(0, 0xffff)
	local no, order
	if mode == "known" then
		-- growth.py has the same: two bijections of 32 bits
		local k = ffi.cast("uint64_t", random(1, known))
		a = tonumber(k * 2654435761ULL % 4294967296ULL)
		b = tonumber(k * 2246822519ULL % 4294967296ULL)
	end
	if mode == "ascending" then
		counter = counter + 8
		no = format("%013x", counter)
		order = "000" .. no
	else
		no = format("%08x%05x", a, b % 0x100000)
		order = format("%08x%08x", a, b)
	end
	return pieces[1] .. no
		.. pieces[2] .. format("%08x-4496-4b4d-%04x-%04x%08x", a, b % 0x10000, (b - b % 0x10000) / 0x10000, a)
		.. pieces[3] .. order .. pieces[4]
end

function done(summary, latency)
	local e = summary.errors
	io.write(format("bench requests %d us %d errors %d p50 %d p99 %d p999 %d max %d\n",
		summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
		latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
