#!/bin/sh
#PBS -a 2460
#PBS -a 13010000
#PBS -a 12:30
#PBS -a tomorrow
date
