#!/usr/bin/env bash
echo "initialised"
