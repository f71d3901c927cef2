#!/bin/bash
#$ -t 20
./task
