#!/bin/bash
#PBS -v "DAYS='mon,tue,wed',STEPS=4"
#PBS -V
for day in ${DAYS//,/ }; do ./day "$day" "$STEPS"; done
