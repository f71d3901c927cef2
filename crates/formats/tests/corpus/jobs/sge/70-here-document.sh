#!/bin/bash
#$ -N outer
#$ -cwd
cat > inner.sh <<'EOF'
#!/bin/bash
#$ -N inner
#$ -pe smp 4
./step2
EOF
qsub inner.sh
